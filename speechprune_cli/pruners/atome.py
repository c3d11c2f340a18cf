"""Pairs of like neighbours, averaged again and again (A-ToMe, arXiv 2306.16009)."""

from typing import ClassVar

from speechprune_cli.budget import top_k
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._merging import merge_runs, neighbour_similarity
from speechprune_cli.pruners._similarity import unit_vectors
from speechprune_cli.pruners.base import Choice, Pruner, membership


class AToMe(Pruner):
    """In each round the most similar of the pairs (1, 2), (3, 4), ... become one token each.

    A-ToMe merges by the encoder's keys, a round a layer; here the projected tokens are merged in
    as many rounds as it takes. An average counts every token that went into it once.
    """

    merges: ClassVar[bool] = True

    asks = False

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        total = len(task.tokens)
        embeds = task.tokens.embeds.float()
        joined = torch.zeros(total - 1, dtype=torch.bool)
        kept, merge = merge_runs(joined, torch.ones(total))
        while len(kept) > task.keep:
            means = merge.average(embeds, len(kept))
            similarity = neighbour_similarity(unit_vectors(means))[::2].cpu()
            pairs = 2 * top_k(similarity, len(kept) - task.keep)
            joined[kept[pairs + 1] - 1] = True
            kept, merge = merge_runs(joined, merge.weights)
        reason = f"{total} tokens merged into {task.keep}, pair by pair"
        return Choice(kept, membership(kept, total), reason, merge)
