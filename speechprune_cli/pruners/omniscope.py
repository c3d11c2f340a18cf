"""Of seconds that match the question more tokens, merged within them (OmniScope, 2607.23193)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from speechprune_cli.budget import top_k
from speechprune_cli.costs import QUESTION_TOKENS, PruningSize
from speechprune_cli.flow import Merge, PruningTask
from speechprune_cli.pruners._segments import equal_segments
from speechprune_cli.pruners._similarity import TOKENS_PER_BLOCK, check_finite
from speechprune_cli.pruners.base import WITH_CHOICES, Choice, Pruner

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 0.05  # of the soft-max over the question's tokens
BEST = 5  # tokens that speak for their second
HIGH = 0.8  # quantile of the seconds from which on one lifts itself and its neighbours
LIFT, NEIGHBOUR_LIFT, DECAY, RADIUS = 1.2, 1.5, 0.5, 3  # the last in seconds
DECIMALS = 6  # of cosines, so that equal tokens match equally in whatever order a device sums
MATCHES = 8  # tokens that each is compared with while its second is merged, about


@dataclass(frozen=True)
class OmniScope(Pruner):
    """The audio half of OmniScope: question-aware and training-free, as its code has it.

    A token's score is its cosine with the question's tokens, their soft-max weighing them, each
    gated by its length. A second's is the mean of its best five, squared; the highest fifth of
    them are lifted, and their neighbours within three seconds. Every second gets its share, at
    least `least` and at most all of its tokens, and is merged down to it by bipartite matching.

    It matches question and options. The authors clip a budget that the bounds do not allow, and
    leave what is not a whole second alone. Here k is kept exactly: `least` shrinks where k is too
    small for it, and the last part of a second is one.
    """

    merges: ClassVar[bool] = True

    least: Annotated[int, Ge(0)] = 3

    @property
    def query(self) -> str:
        return WITH_CHOICES

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        seconds = equal_segments(len(task.tokens), max(1.0, task.tokens.per_second))
        sizes = seconds.bincount()
        scores = question_match(task.tokens.embeds, task.text)
        lifted = lift(best_mean(scores, sizes).clamp_min(0).square())
        quotas = self._quotas(lifted, sizes, task.keep)
        kept, into, weights = [], [], []
        done = start = 0
        blocks = task.tokens.embeds.split(sizes.tolist())
        for block, quota in zip(blocks, quotas.tolist(), strict=True):
            places, joins, shares = merge_down(block.float().cpu(), quota)
            kept.append(start + places)
            into.append((done + joins).clamp_max(task.keep - 1))
            weights.append(shares)
            done, start = done + quota, start + len(block)
        reason = (
            f"{len(seconds)} tokens merged into {task.keep}: {int(quotas.min())} to "
            f"{int(quotas.max())} of each second, by its match with the question"
        )
        merge = Merge(torch.cat(into), torch.cat(weights))
        return Choice(torch.cat(kept), lifted[seconds], reason, merge)

    def _quotas(self, scores: Tensor, sizes: Tensor, keep: int) -> Tensor:
        """Tokens of each second, int64 `[m]`: they sum to `keep`."""
        least = sizes.clamp_max(min(self.least, keep // len(sizes)))
        shares = shares_within(scores, least.double(), sizes.double(), keep)
        quotas = shares.round(decimals=DECIMALS).floor().long()
        quotas[top_k((shares - quotas).round(decimals=DECIMALS), keep - int(quotas.sum()))] += 1
        return quotas

    def flops(self, decoder: Any, size: PruningSize) -> int:
        """Counted for a question without options."""
        return 2 * size.total * (2 + QUESTION_TOKENS + MATCHES) * decoder.hidden_size


def question_match(embeds: Tensor, text: Tensor) -> Tensor:
    """How well audio tokens `[N, D]` match text tokens `[L, D]`, float64 `[N]` on the CPU."""
    import torch
    from torch.nn.functional import normalize

    words = text.to(embeds.device).float()
    lengths = words.norm(dim=-1)
    gates = (lengths / (lengths.max() + 1e-6)).cpu().double()
    directions = normalize(words, dim=-1).T
    blocks = embeds.split(TOKENS_PER_BLOCK)
    cosines = torch.cat([normalize(block.float(), dim=-1) @ directions for block in blocks])
    check_finite(cosines)
    cosines = cosines.cpu().double().round(decimals=DECIMALS)
    return ((cosines * gates / TEMPERATURE).softmax(-1) * cosines).sum(-1)


def best_mean(scores: Tensor, sizes: Tensor) -> Tensor:
    """Mean `[m]` of the best five of `scores` `[N]` in each second of `sizes` `[m]`."""
    import torch

    seconds = scores.split(sizes.tolist())
    return torch.stack([second.topk(min(BEST, len(second))).values.mean() for second in seconds])


def lift(scores: Tensor) -> Tensor:
    """Seconds' `scores` `[m]`, the highest fifth raised, and what is near them, less with time."""
    import torch

    if len(scores) < 2:
        return scores
    high = scores >= scores.quantile(HIGH)
    factors = torch.where(high, LIFT, 1.0).to(scores)
    for distance in range(1, min(RADIUS, len(scores) - 1) + 1):
        factor = 1 + (NEIGHBOUR_LIFT - 1) * DECAY**distance
        near = torch.zeros_like(high)
        near[distance:] |= high[:-distance]
        near[:-distance] |= high[distance:]
        factors = torch.where(near, factors.clamp_min(factor), factors)
    return scores * factors


def shares_within(scores: Tensor, least: Tensor, most: Tensor, budget: float) -> Tensor:
    """`budget` in proportion to `scores` `[m]`, between `least` and `most`; sums to `budget`."""
    import torch

    still_open = torch.ones_like(scores, dtype=torch.bool)
    shares = least.clone()
    while still_open.any():
        pool = scores[still_open]
        pool = pool if pool.sum() > 0 else torch.ones_like(pool)
        rest = budget - shares[~still_open].sum()
        shares[still_open] = rest * pool / pool.sum()
        shares = shares.clamp(least, most)
        over = float(shares.sum() - budget)
        closing = still_open & (shares <= least if over > 0 else shares >= most)
        if abs(over) < 1e-6 or not closing.any():
            break
        still_open &= ~closing
    return shares


def merge_down(embeds: Tensor, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bipartite matching of one second's tokens `[n, D]` down to `target`.

    Returns which tokens stay, int64 `[target]`, which of them each joins, int64 `[n]`, and with
    which weight, float32 `[n]`. In each round, every other token is paired with the most similar
    of the rest, and the most similar pairs become their mean, as many as half of the tokens at
    most. A target of 0 leaves nothing: all weights are 0.
    """
    import torch

    places = torch.arange(len(embeds))
    joins, weights = torch.arange(len(embeds)), torch.ones(len(embeds))
    if target == 0:
        return places[:0], joins * 0, weights * 0
    while len(places) > target:
        partner, stays = _pairs(embeds, min(len(places) - target, max(1, len(places) // 2 - 1)))
        counts = partner.bincount(minlength=len(places)).clamp_min(1)
        sums = torch.zeros_like(embeds).index_add_(0, partner, embeds)
        embeds = (sums / counts[:, None])[stays]
        joins = partner[joins]
        weights = weights / counts[joins]
        joins, places = (stays.cumsum(0) - 1)[joins], places[stays]
    return places, joins, weights


def _pairs(embeds: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Whom each of `embeds` `[n, D]` joins, int64 `[n]`, itself where it stays; who stays `[n]`."""
    import torch
    from torch.nn.functional import normalize

    units = normalize(embeds, dim=-1)
    similarity = (units[::2] @ units[1::2].T).round(decimals=DECIMALS)
    leaving = top_k(similarity.amax(1), count)
    partner = torch.arange(len(embeds))
    partner[2 * leaving] = 2 * similarity.argmax(1)[leaving] + 1
    return partner, torch.ones(len(embeds), dtype=torch.bool).index_fill_(0, 2 * leaving, False)
