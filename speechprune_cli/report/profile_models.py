"""Models side by side: the table that somebody who chooses one wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

from speechprune_cli.profiler.compared import Compared, Figures, Reading, called
from speechprune_cli.profiler.setting import LONGEST, Setting
from speechprune_cli.report.profile_tables import of_kind, tokens
from speechprune_cli.table import BEYOND, DASH, Table, or_dash
from speechprune_cli.units import amount, length, parameters

Way = Literal["whole", "pruned"]
WAYS: tuple[Way, Way] = ("whole", "pruned")
FEW = 4  # languages that a cell names


def models_table(
    setting: Setting, dtype: str, limits: Iterable[float], rows: Sequence[Compared]
) -> Table:
    """A row per model, in the order of `rows`; limits of memory in bytes."""
    names = [called(limit) for limit in limits]
    columns: dict[str, Callable[[Compared], str]] = {
        "model": lambda row: row.model,
        "parameters": lambda row: or_dash(parameters, row.parameters),
        "tokens\na second": of_figures(per_second),
        "context": of_figures(lambda found: f"{found.context:,}"),
        "context\nends at": of_figures(lambda found: length(found.context_seconds)),
        **both("tokens", lambda read: tokens(read.audio_tokens, read.beyond_context)),
        **both("TFLOPs", lambda read: amount(read.tflops)),
        **both("KV GB", lambda read: amount(read.kv_cache_gb)),
        f"weights GB\n{dtype}": of_figures(lambda found: amount(found.weights_gb)),
        **both("peak GB", lambda read: amount(read.gb)),
        **{
            header: show
            for name in names
            for header, show in both(f"in {name}", partial(longest, name)).items()
        },
        "languages": languages,
        "licence": lambda row: row.licence,
    }
    title = f"All models, {length(setting.seconds)} of audio, {setting.text_tokens} text tokens"
    table = Table.of("models", title, columns, rows, fields, notes(setting, names, rows))
    [told] = of_kind("counted", [table])
    return replace(told, words=(0, len(columns) - 2, len(columns) - 1))


def of_figures(show: Callable[[Figures], str]) -> Callable[[Compared], str]:
    """A cell of what follows from the architecture."""
    return lambda row: or_dash(show, row.figures)


def both(name: str, show: Callable[[Reading], str]) -> dict[str, Callable[[Compared], str]]:
    """Two columns: the same, read whole and pruned."""

    def cell(way: Way, row: Compared) -> str:
        return or_dash(show, reading_of(way, row))

    return {f"{way}:\n{name}": partial(cell, way) for way in WAYS}


def reading_of(way: Way, row: Compared) -> Reading | None:
    """A model's, in one of both ways; None where that is not known."""
    if row.figures is None:
        return None
    return row.figures.whole if way == "whole" else row.figures.pruned


def per_second(found: Figures) -> str:
    """`25`, or `about 3`."""
    return f"{'' if found.exact else 'about '}{found.tokens_per_second:.3g}"


def longest(limit: str, read: Reading) -> str:
    """The longest recording that fits, marked where the context ends before."""
    fits = read.longest[limit]
    if fits.seconds is None:
        return DASH
    over = "over " if fits.seconds >= LONGEST else ""
    return f"{over}{length(fits.seconds)}{BEYOND if fits.beyond_context else ''}"


def languages(row: Compared) -> str:
    """The first few, and how many more there are."""
    named, more = ", ".join(row.languages[:FEW]), len(row.languages) - FEW
    return f"{named} and {more} more" if more > 0 else named or DASH


def ways(rows: Sequence[Compared]) -> str:
    """All that the models are pruned by."""
    pruned = (reading_of("pruned", row) for row in rows)
    return " or ".join(sorted({read.condition for read in pruned if read})) or DASH


def notes(setting: Setting, limits: Sequence[str], rows: Sequence[Compared]) -> list[str]:
    """What the columns say, and what some row lacks."""
    found = [row.figures for row in rows if row.figures]
    told = [
        f"whole: everything is read. pruned: {ways(rows)}.",
        "TFLOPs: encoding, pruning and reading. KV: its cache, in 16 bits. Peak: weights, the "
        "recording's tokens, and the most that encoding, pruning or reading holds (estimated).",
        f"in {', '.join(limits)}: the longest recording whose peak fits, up to {length(LONGEST)}.",
        f"{BEYOND}: a prompt beyond the context that the model was made for; counted all the same.",
        f"{DASH}: the preset does not say, or it does not fit at all.",
    ]
    if not all(each.exact for each in found):
        told.append("about: how many tokens there are depends on what is said.")
    if any(each.pruned and each.pruned.pruning_tflops is None for each in found):
        told.append("What this method computes is not counted, nor in the TFLOPs.")
    if setting.batch_size > 1:
        told.append(f"{setting.batch_size} questions are read together.")
    refused = {row.model: row.figures.refused for row in rows if row.figures}
    return [*told, *(f"{model}: {why}." for model, why in refused.items() if why)]


def fields(row: Compared) -> dict[str, Any]:
    """As plain data; what follows from the architecture is left out where none is stated."""
    told = asdict(row)
    counted = told.pop("figures") or {}
    return {**told, "languages": " ".join(row.languages), **counted}
