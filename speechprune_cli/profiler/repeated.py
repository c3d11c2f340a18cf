"""Several questions about one recording: prune for each, or read all of it once and keep that.

Who keeps the KV cache of the whole recording reads only each further question. A method that looks
at the question reads its few tokens anew every time; one that does not keeps those, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from speechprune_cli import costs
from speechprune_cli.backends.shape import Shape
from speechprune_cli.costs import GIGA, TERA
from speechprune_cli.methods import FULL
from speechprune_cli.profiler.setting import Load, Setting


@dataclass(frozen=True)
class Repeated:
    """One condition; TFLOPs of choosing and reading, without the encoder and without answers."""

    condition: str
    keeps: bool  # whether what was read is kept between questions
    first: float | None  # of the first question; None for a method that is not counted
    further: float | None  # of each one after it
    kept_gb: float  # the KV cache held between questions, in 16 bits
    full_from: int | None  # questions from which on `full` computes less; None: never, or untold


def repeated(shape: Shape, setting: Setting) -> list[Repeated]:
    """`full` first, then whatever drops something."""
    return list(_rows(shape, setting))


def _rows(shape: Shape, setting: Setting) -> Iterator[Repeated]:
    whole = setting.load(shape, FULL)
    full = _row(shape, setting, whole)
    yield full
    for load in setting.loads(shape):
        if load.kept < whole.kept and load.spec.amount is not None:
            yield _row(shape, setting, load, full)


def _row(shape: Shape, setting: Setting, load: Load, full: Repeated | None = None) -> Repeated:
    decoder, keeps = shape.decoder, not load.spec.pruner.asks
    pruning = load.spec.pruner.flops(decoder, load.size)
    first = further = None
    if pruning is not None:
        first = (pruning + costs.prefill_flops(decoder, load.length)) / TERA
        further = _further_flops(shape, setting, load) / TERA if keeps else first
    kept = load.kept * costs.kv_cache_bytes(decoder, 1, 2) / GIGA if keeps else 0.0
    return Repeated(load.name, keeps, first, further, kept, _full_from(full, first, further))


def _further_flops(shape: Shape, setting: Setting, load: Load) -> int:
    """The text alone is read, and looks at all that was read before."""
    decoder, text = shape.decoder, setting.text_tokens
    looking = costs.attention_flops(decoder, text, load.length)
    return costs.layers_flops(decoder, text) + looking + costs.head_flops(decoder)


def _full_from(full: Repeated | None, first: float | None, further: float | None) -> int | None:
    """The fewest questions of which reading everything once computes less in all."""
    if full is None or first is None or further is None:
        return None
    if full.first is None or full.further is None or further <= full.further:
        return None
    return max(1, math.floor((full.first - first) / (further - full.further)) + 2)
