"""Tokens as far from each other as can be (DivPrune, arXiv 2503.02175)."""

from typing import Any

from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._similarity import unit_vectors
from speechprune_cli.pruners.base import Choice, Pruner, membership

QUERIES_PER_BLOCK = 1024
DECIMALS = 5  # of cosines, so that equal tokens tie in any order of sums; the earlier one wins


class DivPrune(Pruner):
    """Max-min diversity under the cosine distance, solved greedily as in the paper.

    First the token whose nearest neighbour is farthest, then each time the one farthest from all
    that are kept. Time N k D after a first pass of N^2 D; memory linear in N.
    """

    asks = False

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        units = unit_vectors(task.tokens.embeds)
        total = len(units)
        everyone = torch.arange(total, device=units.device).split(QUERIES_PER_BLOCK)
        blocks = zip(units.split(QUERIES_PER_BLOCK), everyone, strict=True)
        nearest = torch.cat(
            [(block @ units.T).scatter_(1, own[:, None], -2.0).amax(1) for block, own in blocks]
        )
        chosen = [int(nearest.round(decimals=DECIMALS).argmin())]
        closest = torch.full_like(nearest, -torch.inf)
        while len(chosen) < task.keep:
            cosines = (units @ units[chosen[-1]]).round(decimals=DECIMALS)
            closest = closest.maximum(cosines)
            closest[chosen[-1]] = torch.inf
            chosen.append(int(closest.argmin()))
        kept = torch.tensor(chosen).sort().values
        return Choice(kept, membership(kept, total), f"{task.keep} tokens far from each other")

    def flops(self, decoder: Any, size: PruningSize) -> int:
        return 2 * size.total * (1 + size.total + size.kept) * decoder.hidden_size
