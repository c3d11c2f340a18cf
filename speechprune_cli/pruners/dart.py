"""A few pivots and the tokens least like them (DART, arXiv 2502.11494)."""

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from speechprune_cli.budget import top_k
from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._similarity import unit_vectors
from speechprune_cli.pruners.base import Choice, Pruner

DECIMALS = 5  # of cosines, so that equal tokens tie in whatever order a device sums


@dataclass(frozen=True)
class Dart(Pruner):
    """Pivots are the tokens of the largest norm; each keeps, in turn, its share of those left.

    DART acts on a decoder layer's keys; here on what enters the decoder.
    """

    asks = False
    pivots: Annotated[int, Ge(1)] = 8

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        embeds = task.tokens.embeds
        norms = embeds.float().norm(dim=-1).cpu()
        pivots = top_k(norms, min(self.pivots, task.keep))
        units = unit_vectors(embeds)
        unlike = -(units @ units[pivots.to(units.device)].T).cpu().round(decimals=DECIMALS)
        free = torch.ones(len(norms), dtype=torch.bool).index_fill_(0, pivots, False)
        for number in range(len(pivots)):
            wanted = task.keep - int((~free).sum())
            share = wanted // (len(pivots) - number)
            free[top_k(unlike[:, number].masked_fill(~free, -torch.inf), share)] = False
        kept = (~free).nonzero().flatten()
        reason = f"{len(pivots)} pivots and {task.keep - len(pivots)} tokens unlike them"
        return Choice(kept, unlike.amin(1), reason)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        return 2 * size.total * (2 + self.pivots) * decoder.hidden_size
