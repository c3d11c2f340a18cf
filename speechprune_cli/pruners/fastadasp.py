"""Runs of like neighbours, averaged by the attention they receive (FastAdaSP, 2410.03007)."""

from typing import Any, ClassVar

from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import ENCODER_ATTENTION, PruningTask
from speechprune_cli.pruners._merging import merge_alike
from speechprune_cli.pruners.base import Choice, Pruner, membership


class FastAdaSP(Pruner):
    """The N - k most similar neighbours are joined; runs of them become one token each.

    FastAdaSP compares keys and weighs by attention in decoder layers; here, before the decoder,
    the projected tokens are compared and the encoder's attention weighs them.
    """

    merges: ClassVar[bool] = True

    asks = False
    requires = frozenset({ENCODER_ATTENTION})

    def score_and_keep(self, task: PruningTask) -> Choice:
        total = len(task.tokens)
        weights = task.attention.cpu().clamp_min(1e-6)
        kept, merge = merge_alike(task.tokens.embeds, task.keep, weights)
        reason = f"{total} tokens merged into {task.keep} by their neighbours' similarity"
        return Choice(kept, membership(kept, total), reason, merge)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        return 6 * size.total * decoder.hidden_size
