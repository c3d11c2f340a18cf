"""What `profile` counted, as tables.

Every table says what it counts and in which units: one TFLOP is 1e12 operations, a multiply-add
being two, and one GB 1e9 bytes. Columns of the paper's own figures are headed `paper`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

from speechprune_cli.backends.shape import Shape
from speechprune_cli.config import PublishedCost
from speechprune_cli.costs import QUESTION_TOKENS
from speechprune_cli.methods import FULL
from speechprune_cli.profiler import counted
from speechprune_cli.profiler.counted import DTYPES, Compute, Growth, Longest, Memory, PaperCount
from speechprune_cli.profiler.repeated import Repeated, repeated
from speechprune_cli.profiler.setting import LONGEST, Setting
from speechprune_cli.table import BEYOND, DASH, Table, or_dash
from speechprune_cli.units import amount, length


def counted_tables(
    shape: Shape,
    setting: Setting,
    dtype: str,
    memory_limit: float | None,
    published: Iterable[PublishedCost] = (),
) -> list[Table]:
    """Every table of what is counted; memory over length is given in `dtype`."""
    lengths = (*counted.LENGTHS, setting.seconds)
    rated = counted.paper_counts(shape, setting, published)
    tables = [
        *([paper_table(shape, setting, rated)] if rated else []),
        compute_table(shape, setting, counted.compute(shape, setting)),
        memory_table(shape, setting, counted.memory(shape, setting)),
        growth_table(shape, setting, dtype, counted.growth(shape, setting, dtype, lengths)),
        repeated_table(shape, setting, repeated(shape, setting)),
    ]
    if memory_limit is not None:
        found = counted.longest(shape, setting, memory_limit)
        tables.append(longest_table(shape, setting, memory_limit, found))
    return of_kind("counted", tables)


def of_kind(kind: Literal["counted", "measured"], tables: Iterable[Table]) -> list[Table]:
    """The tables, each said to be so."""
    return [
        replace(table, title=f"{table.title} ({kind})", facts={"kind": kind}) for table in tables
    ]


def paper_table(shape: Shape, setting: Setting, rows: Sequence[PaperCount]) -> Table:
    """Table I, beside the paper's own columns where it has these rows."""
    tflops = two_decimals([row.tflops for row in rows])
    memory = two_decimals([row.memory_gb for row in rows])
    activations = two_decimals([row.activations_gb for row in rows])
    columns: dict[str, Callable[[PaperCount], str]] = {
        "rate": lambda row: f"{row.rate:g}",
        "audio\ntokens": lambda row: f"{row.audio_tokens:,}",
        "prompt\ntokens": lambda row: f"{row.length:,}",
        "TFLOPs": lambda row: tflops(row.tflops),
        "memory\nGB": lambda row: memory(row.memory_gb),
        "activations\nGB": lambda row: activations(row.activations_gb),
    }
    caption = [
        "The paper's convention (arXiv 2412.12009, table I), in decimal GB.",
        "TFLOPs: linear layers and lm_head at every position; no attention, encoder or pruning.",
        "Memory: decoder layers and KV cache in 16 bits; no embeddings, lm_head or encoder.",
        "Activations: one layer's in 16 bits, the attention matrix stored.",
    ]
    if any(row.paper for row in rows):
        columns["paper:\nTFLOPs"] = lambda row: row.paper.tflops if row.paper else DASH
        columns["paper:\nmemory"] = lambda row: row.paper.memory_gb if row.paper else DASH
        columns["paper:\nactivations"] = lambda row: row.paper.activations_gb if row.paper else DASH
        caption.append("paper: as printed there, for Qwen2-Audio.")
    if setting.seconds > shape.encoder.input_seconds:
        caption.append(f"Rates are of B1, {shape.budget_reason}.")
    title = f"{about(shape, setting)}: table I"
    return Table.of("paper", title, columns, rows, _paper_fields, caption)


def _paper_fields(row: PaperCount) -> dict[str, Any]:
    fields, printed = asdict(row), row.paper
    del fields["paper"]
    names = ("tflops", "memory_gb", "activations_gb")
    return fields | {f"paper_{name}": printed and getattr(printed, name) for name in names}


def compute_table(shape: Shape, setting: Setting, rows: Sequence[Compute]) -> Table:
    """All that a run computes, by stage."""
    full = rows[0].total
    columns: dict[str, Callable[[Compute], str]] = {
        "condition": lambda row: row.condition,
        "audio\ntokens": lambda row: f"{row.audio_tokens:,}",
        "prompt\ntokens": lambda row: tokens(row.length, row.beyond_context),
        "audio\nencoder": lambda row: amount(row.encoder),
        "pruning": lambda row: or_dash(amount, row.pruning),
        "linear\nlayers": lambda row: amount(row.layers),
        "attention": lambda row: amount(row.attention),
        "lm_head": lambda row: amount(row.head),
        **({"decode": lambda row: amount(row.decode)} if setting.output_tokens > 1 else {}),
        "total": lambda row: amount(row.total),
        "of\nfull": lambda row: f"{100 * row.total / full:.0f}%",
    }
    size = setting.load(shape, FULL).size
    caption = [
        f"Audio tokens: k, of N {size.total:,} and B1 {size.budget:,}.",
        "All that a run computes; a multiply-add is two operations.",
        "Audio encoder: as its family computes, whatever is pruned. Pruning: the method's own "
        f"scores, for a question of {QUESTION_TOKENS} tokens.",
        "Attention: both products over all pairs of positions. lm_head: at the last one alone.",
        *_context(shape, rows),
    ]
    if setting.output_tokens > 1:
        more = setting.output_tokens - 1
        caption.append(f"Decode: {more:,} tokens more than the first, with the KV cache.")
    if any(row.pruning is None for row in rows):
        caption.append(f"{DASH}: what this method computes is not counted, nor in the total.")
    title = f"{about(shape, setting)}: TFLOPs"

    def fields(row: Compute) -> dict[str, Any]:
        return {**asdict(row), "prefill": row.prefill, "total": row.total}

    return Table.of("compute", title, columns, rows, fields, caption)


def memory_table(shape: Shape, setting: Setting, rows: Sequence[Memory]) -> Table:
    """Peak memory by dtype and quantisation, the weights alone first."""
    weights = {dtype: counted.weights_bytes(shape, dtype) / 1e9 for dtype in DTYPES}
    shown = [Memory("weights alone", 0, False, 0, 0, weights), *rows]
    columns: dict[str, Callable[[Memory], str]] = {
        "condition": lambda row: row.condition,
        "prompt\ntokens": lambda row: tokens(row.length, row.beyond_context),
        "KV cache\n16 bits": lambda row: amount(row.kv_cache),
        "working\n16 bits": lambda row: amount(row.working),
        **{f"total\n{dtype}": partial(_total, dtype) for dtype in DTYPES},
    }
    caption = [
        "Weights: embeddings, lm_head and audio encoder too; int8 and nf4 pack the decoder's "
        "linear layers alone.",
        "Working: the recording's tokens, and the most that encoding, pruning or reading holds "
        "beside the KV cache (estimated).",
        "1 GB = 1e9 bytes; float16 takes what bfloat16 takes.",
        *_context(shape, rows),
    ]
    title = f"{about(shape, setting)}: peak memory in GB"
    return Table.of("memory", title, columns, shown, asdict, caption)


def _total(dtype: str, row: Memory) -> str:
    return amount(row.totals[dtype])


def growth_table(shape: Shape, setting: Setting, dtype: str, rows: Sequence[Growth]) -> Table:
    """Cost over the length of the recording."""
    name = example(rows[0])
    columns: dict[str, Callable[[Growth], str]] = {
        "length": lambda row: length(row.seconds),
        "audio\ntokens": lambda row: tokens(row.total, row.beyond_context),
        "encoder\nTFLOPs": lambda row: amount(row.encoder),
        "full:\nprefill": lambda row: amount(row.full_tflops),
        "full:\nGB": lambda row: amount(row.full_gb),
    }
    if name is not None:
        columns |= {
            "pruned:\npruning": lambda row: or_dash(amount, row.pruned[name].pruning_tflops),
            "pruned:\nprefill": lambda row: amount(row.pruned[name].prefill_tflops),
            "pruned:\nGB": lambda row: amount(row.pruned[name].gb),
            "TFLOPs\nsaved": lambda row: saved(row, name),
        }
    beside = f"pruned: {name}. " if name else ""
    caption = [
        f"full: everything is read. {beside}GB: peak memory in {dtype}, weights included.",
        "Prefill and pruning in TFLOPs; saved: full / (pruning + prefill), the encoder left out.",
        *_context(shape, rows),
    ]
    title = f"{shape.name}, {setting.text_tokens} text tokens: cost over length"
    return Table.of("length", title, columns, rows, asdict, caption)


def repeated_table(shape: Shape, setting: Setting, rows: Sequence[Repeated]) -> Table:
    """From how many questions on it is cheaper to keep what was read of the whole."""
    columns: dict[str, Callable[[Repeated], str]] = {
        "condition": lambda row: row.condition,
        "first question\nTFLOPs": lambda row: or_dash(amount, row.first),
        "each further\nTFLOPs": lambda row: or_dash(amount, row.further),
        "kept\nGB": lambda row: amount(row.kept_gb) if row.keeps else DASH,
        "full is cheaper\nfrom questions": lambda row: or_dash("{:,}".format, row.full_from),
    }
    caption = [
        "Choosing and reading; the encoder, which hears once, and the answers are left out.",
        "Kept: the KV cache of what is the same for every question, in 16 bits; a method that "
        f"looks at the question reads anew ({DASH}).",
        f"Full is cheaper: from so many questions about one recording on; {DASH}: never, or not "
        "counted.",
    ]
    title = f"{about(shape, setting)}: several questions"
    return Table.of("questions", title, columns, rows, asdict, caption)


def example(row: Growth) -> str | None:
    """The lightest pruning that drops something of the budget, else the first."""
    names = list(row.pruned)
    lighter = (name for name in names if row.pruned[name].prefill_tflops < row.full_tflops)
    return next(lighter, names[0] if names else None)


def saved(row: Growth, name: str) -> str:
    """How many times less is computed."""
    pruned = row.pruned[name]
    if pruned.pruning_tflops is None:
        return DASH
    times = row.full_tflops / (pruned.pruning_tflops + pruned.prefill_tflops)
    return f"{times:,.1f}x" if times < 100 else f"{times:,.0f}x"


def longest_table(shape: Shape, setting: Setting, limit: float, rows: Sequence[Longest]) -> Table:
    """The longest recording that fits, by dtype, pruned and not."""
    columns: dict[str, Callable[[Longest], str]] = {
        "weights in": lambda row: row.dtype,
        "weights\nGB": lambda row: amount(row.weights_gb),
        **{name.replace(" ", "\n"): partial(_fits, name) for name in rows[0].seconds},
    }
    minutes = counted.context_seconds(shape, setting)
    limit_tokens = shape.decoder.max_position_embeddings
    caption = [
        "Estimated peak of weights, the recording's tokens, KV cache and activations, as in the "
        f"table of memory. {DASH}: does not fit at all.",
        f"Unpruned, the context of {limit_tokens:,} positions ends at {length(minutes)}, whatever "
        "the memory.",
    ]
    title = f"{shape.name}: the longest recording that fits {limit / 1e9:g} GB"
    return Table.of("longest", title, columns, rows, asdict, caption)


def _fits(name: str, row: Longest) -> str:
    seconds = row.seconds[name]
    if seconds is None:
        return DASH
    return ("over " if seconds >= LONGEST else "") + length(seconds)


def about(shape: Shape, setting: Setting) -> str:
    """Model, recording, prompt and answer."""
    parts = [f"{shape.name}, {length(setting.seconds)} of audio, {setting.text_tokens} text tokens"]
    if setting.output_tokens > 1:
        parts.append(f"{setting.output_tokens} output tokens")
    if setting.batch_size > 1:
        parts.append(f"{setting.batch_size} questions together")
    return ", ".join(parts)


def _context(shape: Shape, rows: Sequence[Compute | Memory | Growth]) -> list[str]:
    """What the mark beside a number of tokens says, where one has it."""
    limit = f"beyond the {shape.decoder.max_position_embeddings:,} positions"
    note = f"{BEYOND}: {limit} that the model was made for; computed all the same."
    return [note] if any(row.beyond_context for row in rows) else []


def tokens(count: int, beyond_context: bool) -> str:
    """A number of tokens, marked where the context ends before."""
    return (f"{count:,}" if count else DASH) + (BEYOND if beyond_context else "")


def two_decimals(values: Sequence[float]) -> Callable[[float], str]:
    """As the paper prints a column; three significant digits where all of it is small."""
    large = max(values, default=0) >= 0.1
    return lambda value: f"{value:,.2f}" if large else f"{value:.3g}"
