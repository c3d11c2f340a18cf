"""Runs of like neighbours, averaged (Affinity Pooling, arXiv 2604.06871)."""

from typing import Any, ClassVar

from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._merging import merge_alike
from speechprune_cli.pruners.base import Choice, Pruner, membership


class Affinity(Pruner):
    """A token joins the one before it where their cosine exceeds a threshold; runs are averaged.

    Its stage before the language model, with the window of one token that the paper uses there; the
    other acts on a late layer. The paper fixes the threshold (0.8, 0.9): here it lies where k runs
    are left. It is `fastadasp` without attention, for models that do not give it.
    """

    merges: ClassVar[bool] = True

    asks = False

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        total = len(task.tokens)
        kept, merge = merge_alike(task.tokens.embeds, task.keep, torch.ones(total))
        reason = f"{total} tokens pooled into {task.keep} by their neighbours' similarity"
        return Choice(kept, membership(kept, total), reason, merge)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        return 6 * size.total * decoder.hidden_size
