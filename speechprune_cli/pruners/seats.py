"""Of every window tokens far from each other, the attended first (SEATS, arXiv 2605.20035)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from speechprune_cli.budget import frame_quotas
from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._segments import equal_segments
from speechprune_cli.pruners._similarity import unit_vectors
from speechprune_cli.pruners.base import Choice, Pruner, membership

if TYPE_CHECKING:
    from torch import Tensor

DECIMALS = 5  # of cosines, so that equal tokens tie in any order of sums; the earlier one wins
PER_SECOND = 25  # tokens, where costs are counted


@dataclass(frozen=True)
class Seats(Pruner):
    """DivPrune within windows, distances times the attention that the encoder pays the token.

    What SEATS does before the language model (winDivPrune); its further stages drop tokens between
    decoder layers. As in its code, models that tell no attention are pruned without. Every window
    keeps its share of k; what rounding loses goes to the largest remainders.
    """

    asks = False
    seconds: Annotated[float, Interval(gt=0, lt=1e6)] = 2.0  # of a window

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        tokens, total = task.tokens, len(task.tokens)
        attention = torch.ones(total) if tokens.attention is None else tokens.attention.cpu()
        windows = equal_segments(total, max(1.0, self.seconds * tokens.per_second))
        sizes = windows.bincount()
        quotas = frame_quotas(sizes.double().log(), sizes, task.keep).tolist()
        units = unit_vectors(tokens.embeds).split(sizes.tolist())
        weights, places = (each.split(sizes.tolist()) for each in (attention, torch.arange(total)))
        parts = zip(places, units, weights, quotas, strict=True)
        kept = torch.cat([at[far_apart(unit.cpu(), by, count)] for at, unit, by, count in parts])
        reason = (
            f"{task.keep} tokens far from each other, its share of each of {len(sizes)} windows"
        )
        return Choice(kept, membership(kept, total), reason)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        """Each is compared with all of its window, of as many as at 25 tokens a second.

        That is Qwen2-Audio's rate: a `size` tells no model's own.
        """
        window = min(size.total, max(1, round(PER_SECOND * self.seconds)))
        return 2 * size.total * (1 + window) * decoder.hidden_size


def far_apart(units: Tensor, weights: Tensor, count: int) -> Tensor:
    """`count` of the rows of `units` `[n, D]`, sorted: greedily, by weight times least distance."""
    import torch

    if not 0 < count < len(units):
        return torch.arange(count)
    distance = (1 - units @ units.T).round(decimals=DECIMALS)
    others = distance.clone().fill_diagonal_(torch.inf)
    chosen = [int((others.amin(0) * weights).argmax())]
    closest = torch.full_like(weights, torch.inf, dtype=distance.dtype)
    while len(chosen) < count:
        closest = closest.minimum(distance[chosen[-1]])
        worth = (closest * weights).index_fill(0, torch.tensor(chosen), -1.0)
        chosen.append(int(worth.argmax()))
    return torch.tensor(chosen).sort().values
