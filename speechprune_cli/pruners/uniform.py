"""Evenly spaced tokens of the whole recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners.base import Choice, Pruner, evenly, membership


@dataclass(frozen=True)
class Uniform(Pruner):
    """The middle token of each of k equal parts: strong, as 25 tokens a second are redundant."""

    reads_embeddings: ClassVar[bool] = False

    def score_and_keep(self, task: PruningTask) -> Choice:
        total = len(task.tokens)
        kept = evenly(task.keep, total)
        return Choice(kept, membership(kept, total), f"every {total / task.keep:.3g}th token")
