"""What the encoder attends to, and what is left without its duplicates (VisPruner, 2412.01818)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from speechprune_cli.budget import top_k
from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import ENCODER_ATTENTION, PruningTask
from speechprune_cli.pruners._similarity import unit_vectors
from speechprune_cli.pruners.base import Choice, Pruner

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 8  # duplicates that a round removes
DECIMALS = 6  # of cosines, so that equal tokens tie in any order of sums; the earlier one goes


@dataclass(frozen=True)
class VisPruner(Pruner):
    """A share of k by the attention received in the encoder's last layer, the rest by diversity.

    Of the tokens that are left, in order of attention, every other one is compared with the rest;
    the eight most like one of these go, and so on until as many are left as are wanted. Written
    for images, which hold hundreds of tokens: time grows with N^3.
    """

    asks = False
    requires = frozenset({ENCODER_ATTENTION})
    important: Annotated[float, Interval(ge=0, le=1)] = 0.5  # share of k that attention chooses

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        attention = task.attention.cpu()
        order = attention.argsort(descending=True, stable=True)
        first = int(self.important * task.keep)
        rest = without_duplicates(
            unit_vectors(task.tokens.embeds), order[first:], task.keep - first
        )
        kept = torch.cat([order[:first], rest]).sort().values
        reason = f"{first} tokens that the encoder attends to most, {len(rest)} unlike each other"
        return Choice(kept, attention, reason)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        """Of n tokens, half are compared with half, for every eight that go."""
        return sum(n * n // 2 for n in self._rounds(size)) * decoder.hidden_size

    def working_bytes(self, decoder: Any, size: PruningSize) -> int:
        """Of the first round, the largest: the halves of its tokens too, and their `[n/2, n/2]`."""
        n = max(self._rounds(size), default=0)
        compared = 4 * (n * decoder.hidden_size + n * n // 4)
        return super().working_bytes(decoder, size) + compared

    def _rounds(self, size: PruningSize) -> range:
        """How many tokens are left as each begins."""
        first = int(self.important * size.kept)
        return range(size.total - first, size.kept - first, -AT_ONCE)


def without_duplicates(units: Tensor, left: Tensor, count: int) -> Tensor:
    """The `count` of the tokens `left` `[n]` that remain when those most like others go.

    `units` `[N, D]` are all tokens, on any device.
    """
    import torch

    while len(left) > count:
        some, others = left[::2], left[1::2]
        if not len(others):
            return left[:count]
        on_device = units[some.to(units.device)] @ units[others.to(units.device)].T
        likeness = on_device.amax(1).cpu().round(decimals=DECIMALS)
        going = top_k(likeness, min(AT_ONCE, len(left) - count))
        stays = torch.ones(len(some), dtype=torch.bool).index_fill_(0, going, False)
        nearest = likeness.argsort(descending=True, stable=True)
        left = torch.cat([some[nearest[stays[nearest]]], others])
    return left
