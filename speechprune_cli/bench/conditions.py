"""The conditions of a run: every method at every amount, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speechprune_cli.methods import FULL, ORIGINAL, Amount, MethodSpec


@dataclass(frozen=True)
class Condition:
    """A way of pruning, or of taking the sound away."""

    spec: MethodSpec
    silence: bool = False  # as much silence instead: what can be answered without hearing?

    @property
    def name(self) -> str:
        """As it stands in lines and tables."""
        return "silence" if self.silence else self.spec.label

    @property
    def fields(self) -> dict[str, Any]:
        """What a line says of its condition."""
        amount = self.spec.amount or Amount()
        return {
            "condition": self.name,
            "method": self.spec.method,
            "rate": amount.rate,
            "share_asked": amount.share,
            "tokens_asked": amount.tokens,
        }


REFERENCES = (Condition(FULL), Condition(ORIGINAL), Condition(FULL, silence=True))
"""Part of every run: paired tests, derived H lists and the silence control need them."""
