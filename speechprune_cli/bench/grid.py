"""The conditions of a run: every method at every rate, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from speechprune_cli.methods import parse_settings
from speechprune_cli.pruners import PRUNERS

pruner_class = PRUNERS.part


@dataclass(frozen=True)
class Condition:
    """A way of pruning, or of taking the sound away."""

    method: str
    """`name`, or `name:setting=value,setting=value` for settings of this condition's own."""
    rate: float | None = None
    """None for a method that keeps a fixed part."""
    silence: bool = False
    """The recording is replaced by as much silence: what can be answered without hearing?"""

    @property
    def name(self) -> str:
        """As it stands in lines and tables."""
        if self.silence:
            return "silence"
        return self.method if self.rate is None else f"{self.method} {self.rate:g}"


REFERENCES = (Condition("full"), Condition("original"), Condition("full", silence=True))
"""Part of every run: paired tests, derived H lists and the silence control need them."""


def split_method(method: str) -> tuple[str, dict[str, Any]]:
    """A method's name and the settings that stand beside it. Raises UsageError."""
    name, _, settings = method.partition(":")
    return name, parse_settings(settings.split(",") if settings else [])


def conditions(methods: Iterable[str], rates: Iterable[float]) -> tuple[Condition, ...]:
    """The references, then every method at every rate, each once, in the order given."""
    grid = [
        Condition(method, rate if pruner_class(split_method(method)[0]).takes_amount else None)
        for method in methods
        for rate in rates
    ]
    return tuple({condition.name: condition for condition in (*REFERENCES, *grid)}.values())
