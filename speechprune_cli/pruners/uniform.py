"""Evenly spaced tokens of the whole recording."""

from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners.base import Choice, Pruner, evenly, membership


class Uniform(Pruner):
    """The middle token of each of k equal parts: strong, as 25 tokens a second are redundant."""

    asks = False
    reads_embeddings = False

    def score_and_keep(self, task: PruningTask) -> Choice:
        total = len(task.tokens)
        kept = evenly(task.keep, total)
        return Choice(kept, membership(kept, total), f"every {total / task.keep:.3g}th token")
