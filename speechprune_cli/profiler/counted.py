"""Figures of a setting in closed form: no weights, no device, any model."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from speechprune_cli import costs
from speechprune_cli.backends.shape import Shape
from speechprune_cli.config import PublishedCost
from speechprune_cli.costs import GIGA, TERA
from speechprune_cli.methods import Amount, MethodSpec, pruning_size
from speechprune_cli.profiler.setting import LONGEST, Load, Setting

DTYPES = ("float32", "bfloat16", "int8", "nf4")  # float16 takes what bfloat16 takes
LENGTHS = (30, 90, 300, 600, 1800, 3600, 7200, 18_000, 36_000)  # of recordings, in seconds


@dataclass(frozen=True)
class PaperCount:
    """One row in the paper's convention (`costs.py`); a batch takes `batch_size` times as much."""

    rate: float
    audio_tokens: int
    length: int
    tflops: float
    memory_gb: float
    activations_gb: float
    paper: PublishedCost | None  # the same as table I prints it, where it has this row


@dataclass(frozen=True)
class Compute:
    """TFLOPs of one condition, everything that a run computes.

    A batch is of questions about one recording: that is encoded once, all else is done for each.
    """

    condition: str
    method: str
    rate: float | None
    audio_tokens: int
    length: int
    beyond_context: bool
    encoder: float
    pruning: float | None  # None for a method that is not counted
    layers: float
    attention: float
    head: float
    decode: float

    @property
    def prefill(self) -> float:
        """All of reading the prompt."""
        return self.layers + self.attention + self.head

    @property
    def total(self) -> float:
        """All that is counted."""
        return self.encoder + (self.pruning or 0) + self.prefill + self.decode


@dataclass(frozen=True)
class Memory:
    """GB of one condition at its peak, by dtype or quantisation; decimal."""

    condition: str
    length: int
    beyond_context: bool
    kv_cache: float  # in 16 bits, with the answer's tokens
    working: float  # in 16 bits: beside weights and KV cache, where most is held
    totals: dict[str, float]


@dataclass(frozen=True)
class Pruned:
    """What is left of the cost."""

    pruning_tflops: float | None  # None for a method that is not counted
    prefill_tflops: float
    gb: float  # peak memory, weights included


@dataclass(frozen=True)
class Growth:
    """A recording of some length, not pruned and pruned to a fixed number of tokens."""

    seconds: float
    total: int
    beyond_context: bool  # whether the unpruned prompt is
    encoder: float  # TFLOPs of the audio encoder, whatever is pruned
    full_tflops: float  # of the unpruned prefill
    full_gb: float  # peak memory, weights included
    pruned: dict[str, Pruned]  # by condition


@dataclass(frozen=True)
class Longest:
    """The longest recording whose peak memory fits, in seconds; None: the weights alone do not."""

    dtype: str
    weights_gb: float
    seconds: dict[str, float | None]  # by condition, up to ten hours


def paper_counts(
    shape: Shape, setting: Setting, published: Iterable[PublishedCost] = ()
) -> list[PaperCount]:
    """The rows of the paper's table I for this model, at the setting's rates.

    `published` are rows as the paper prints them, of one question at a time.
    """
    decoder, counts, rows = shape.decoder, [], setting.batch_size
    printed = {(row.rate, row.prompt_tokens): row for row in published if rows == 1}
    weights, total = costs.paper_memory_gb(decoder, 0), shape.audio_tokens(setting.seconds)
    for rate in setting.rates:
        size = pruning_size(total, shape.input_tokens, setting.budget, Amount(rate=rate))
        n = size.kept + setting.text_tokens
        counts.append(
            PaperCount(
                rate=rate,
                audio_tokens=size.kept,
                length=n,
                tflops=rows * costs.paper_tflops(decoder, n),
                memory_gb=weights + rows * (costs.paper_memory_gb(decoder, n) - weights),
                activations_gb=rows * costs.paper_activations_gb(decoder, n),
                paper=printed.get((rate, n)),
            )
        )
    return counts


def compute(shape: Shape, setting: Setting) -> list[Compute]:
    """TFLOPs of every condition."""
    return [compute_of(shape, setting, load) for load in setting.loads(shape)]


def compute_of(shape: Shape, setting: Setting, load: Load) -> Compute:
    """TFLOPs of one condition."""
    n, scale, decoder = load.length, setting.batch_size / TERA, shape.decoder
    pruning = load.spec.pruner.flops(decoder, load.size)
    return Compute(
        condition=load.name,
        method=load.spec.method,
        rate=load.spec.amount.rate if load.spec.amount else None,
        audio_tokens=load.kept,
        length=n,
        beyond_context=beyond_context(shape, setting, n),
        encoder=shape.encoder.flops(load.heard_seconds, decoder.hidden_size) / TERA,
        pruning=None if pruning is None else scale * pruning,
        layers=scale * costs.layers_flops(decoder, n),
        attention=scale * costs.attention_flops(decoder, n, n),
        head=scale * costs.head_flops(decoder),
        decode=scale * costs.decode_flops(decoder, n, setting.output_tokens),
    )


def memory(shape: Shape, setting: Setting) -> list[Memory]:
    """Peak memory of every condition."""
    return [memory_of(shape, setting, load) for load in setting.loads(shape)]


def memory_of(shape: Shape, setting: Setting, load: Load) -> Memory:
    """Peak memory of one condition."""
    held = load.length + setting.output_tokens - 1
    cache = setting.batch_size * costs.kv_cache_bytes(shape.decoder, held, 2)
    peaks = {dtype: peak_bytes(shape, setting, load, dtype) for dtype in DTYPES}
    working = peaks["bfloat16"] - weights_bytes(shape, "bfloat16") - cache
    return Memory(
        condition=load.name,
        length=load.length,
        beyond_context=beyond_context(shape, setting, load.length),
        kv_cache=cache / GIGA,
        working=max(working, 0) / GIGA,
        totals={dtype: peak / GIGA for dtype, peak in peaks.items()},
    )


def peak_bytes(shape: Shape, setting: Setting, load: Load, dtype: str) -> float:
    """Weights, the audio tokens encoded, and the hungriest of encoding, pruning and reading."""
    decoder, size = shape.decoder, costs.BYTES[dtype]
    held, embedding = load.length + setting.output_tokens - 1, decoder.hidden_size * size
    encoding = shape.encoder.bytes(load.heard_seconds, size)
    reading = (
        costs.kv_cache_bytes(decoder, held, size)
        + costs.activation_bytes(decoder, load.length, size)
        + load.length * embedding
    )
    pruning = load.spec.pruner.working_bytes(decoder, load.size)
    most = max(encoding, pruning, setting.batch_size * reading)
    return weights_bytes(shape, dtype) + load.heard * embedding + most


def weights_bytes(shape: Shape, dtype: str) -> float:
    """All weights of the model."""
    return costs.weights_bytes(shape.decoder, shape.parameters, dtype)


def growth(shape: Shape, setting: Setting, dtype: str, lengths: Iterable[float]) -> list[Growth]:
    """How costs grow with the recording's length."""
    return [_growth(shape, setting, dtype, seconds) for seconds in sorted(set(lengths))]


def _growth(shape: Shape, setting: Setting, dtype: str, seconds: float) -> Growth:
    def gigabytes(load: Load) -> float:
        return peak_bytes(shape, setting, load, dtype) / GIGA

    full, *others = setting.loads(shape, seconds)
    counts = {load.name: compute_of(shape, setting, load) for load in (full, *others)}
    return Growth(
        seconds=seconds,
        total=full.size.total,
        beyond_context=counts[full.name].beyond_context,
        encoder=counts[full.name].encoder,
        full_tflops=counts[full.name].prefill,
        full_gb=gigabytes(full),
        pruned={
            load.name: Pruned(counts[load.name].pruning, counts[load.name].prefill, gigabytes(load))
            for load in others
            if load.spec.amount is not None
        },
    )


def longest(shape: Shape, setting: Setting, limit: float) -> list[Longest]:
    """The longest recording whose peak memory stays within `limit` bytes, by dtype."""
    found = []
    for dtype in DTYPES:
        seconds = {
            load.name: longest_seconds(shape, setting, load.spec, dtype, limit)
            for load in setting.loads(shape)
            if load.spec.pruner.hears_all
        }
        found.append(Longest(dtype, weights_bytes(shape, dtype) / GIGA, seconds))
    return found


def longest_seconds(
    shape: Shape, setting: Setting, spec: MethodSpec, dtype: str, limit: float
) -> float | None:
    """Of one condition, whole seconds up to ten hours; None where the weights alone do not fit.

    Memory never shrinks with the length.
    """

    def peak(seconds: int) -> float:
        return peak_bytes(shape, setting, setting.load(shape, spec, seconds), dtype)

    fitting = bisect_right(range(1, int(LONGEST) + 1), limit, key=peak)
    return float(fitting) if fitting else None


def beyond_context(shape: Shape, setting: Setting, length: int) -> bool:
    """Whether prompt and answer need more positions than the model was made for."""
    return length + setting.output_tokens - 1 > shape.decoder.max_position_embeddings


def context_seconds(shape: Shape, setting: Setting) -> float:
    """Length of the recording whose unpruned prompt just fills the context."""
    room = shape.decoder.max_position_embeddings - setting.text_tokens - setting.output_tokens + 1
    return max(room, 0) / shape.encoder.per_second


def context_warnings(shape: Shape, setting: Setting) -> list[str]:
    """One line for every condition whose prompt is longer than the model was made for."""
    return [
        f"{load.name}: {load.length:,} prompt tokens are beyond the context of "
        f"{shape.decoder.max_position_embeddings:,} that {shape.name} was made for; computed all "
        "the same"
        for load in setting.loads(shape)
        if beyond_context(shape, setting, load.length)
    ]
