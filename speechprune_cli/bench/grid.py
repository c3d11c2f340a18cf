"""The conditions of a run: every method at every rate, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from speechprune_cli.pruners import pruner_class


@dataclass(frozen=True)
class Condition:
    """A way of pruning, or of taking the sound away."""

    method: str
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


def conditions(methods: Iterable[str], rates: Iterable[float]) -> tuple[Condition, ...]:
    """The references, then every method at every rate, each once, in the order given."""
    grid = [
        Condition(method, rate if pruner_class(method).uses_rate else None)
        for method in methods
        for rate in rates
    ]
    return tuple({condition.name: condition for condition in (*REFERENCES, *grid)}.values())
