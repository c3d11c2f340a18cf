"""What is profiled: a recording of some length, a prompt, an answer, and ways of pruning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from speechprune_cli import methods
from speechprune_cli.backends import FAMILIES
from speechprune_cli.config import Defaults
from speechprune_cli.costs import PruningSize
from speechprune_cli.errors import UsageError
from speechprune_cli.methods import Amount, BudgetOption, MethodSpec

if TYPE_CHECKING:
    from speechprune_cli.backends.shape import Shape

SECONDS = 30.0  # of the recording, where nobody asks for another length
MANY_SECONDS = 3600.0  # the same where many models are compared
LONGEST = 36_000.0  # ten hours, in seconds
UNITS = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def table_i_specs() -> tuple[MethodSpec, ...]:
    """The method of the paper's table I at its rates."""
    names, rates = methods.table_i(Defaults())
    return methods.grid(names, methods.amounts(rates, ()))


@dataclass(frozen=True)
class Load:
    """What the language model reads under one condition."""

    spec: MethodSpec
    heard_seconds: float  # length of what has to be encoded for it
    heard: int  # audio tokens of that
    size: PruningSize  # N, B1 and k of the recording
    kept: int  # audio tokens that are read
    length: int  # tokens of the prompt: audio and text

    @property
    def name(self) -> str:
        """Of the condition."""
        return self.spec.label


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A recording, a prompt and an answer, and ways of pruning. The defaults are table I's."""

    seconds: float = SECONDS
    text_tokens: int = 107
    output_tokens: int = 1
    batch_size: int = 1
    specs: tuple[MethodSpec, ...] = field(default_factory=table_i_specs)
    budget: BudgetOption = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= LONGEST:
            raise UsageError(f"--seconds {self.seconds:g}: give a length above 0, up to 10 hours")

    @property
    def rates(self) -> tuple[float, ...]:
        """Of all specs that have one."""
        found = (spec.amount.rate for spec in self.specs if spec.amount)
        return tuple(dict.fromkeys(rate for rate in found if rate is not None))

    def loads(self, shape: Shape, seconds: float | None = None) -> Iterator[Load]:
        """`full` and `original`, then all that is asked for, for a recording of `seconds`.

        Raises UsageError for a method that the model's family cannot serve, and for a recording
        too short for a single token.
        """
        specs = {spec.label: spec for spec in (methods.FULL, methods.ORIGINAL, *self.specs)}
        for spec in specs.values():
            yield self.load(shape, spec, seconds)

    def load(self, shape: Shape, spec: MethodSpec, seconds: float | None = None) -> Load:
        """What one condition reads of a recording of `seconds`, by default the setting's own."""
        spec.check_family(FAMILIES.part(shape.family))
        seconds = self.seconds if seconds is None else seconds
        total = shape.audio_tokens(seconds)
        if total == 0:
            raise UsageError(f"--seconds {seconds:g}: too short for a single audio token")
        amount = spec.amount or Amount(rate=0.0)
        size = methods.pruning_size(total, shape.input_tokens, self.budget, amount)
        heard = seconds if spec.pruner.hears_all else min(seconds, shape.encoder.input_seconds)
        kept = spec.pruner.retained(size)
        length = kept + self.text_tokens
        return Load(spec, heard, shape.audio_tokens(heard), size, kept, length)


def parse_memory(text: str) -> float:
    """`24GB` or `16 GiB` in bytes. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    units = {unit.lower(): size for unit, size in UNITS.items()}
    if found is None or found[2].lower() not in units or float(found[1]) == 0:
        raise UsageError(f"--memory {text}: give a size with its unit, such as 24GB or 16GiB")
    return float(found[1]) * units[found[2].lower()]
