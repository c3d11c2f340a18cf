"""Like neighbours merged, then what is unlike and attended to kept (SA-MAP, Tencent, 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Interval

from speechprune_cli.budget import top_k
from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import ENCODER_ATTENTION, Merge, PruningTask
from speechprune_cli.pruners._determinant import most_diverse
from speechprune_cli.pruners._merging import merge_runs
from speechprune_cli.pruners._similarity import unit_vectors
from speechprune_cli.pruners.base import Choice, Pruner

if TYPE_CHECKING:
    from torch import Tensor

DECIMALS = 6  # of mean cosines, so that equal tokens join equally in whatever order a device sums
LEAST_ATTENTION = 1e-6  # so that no average is of nothing


@dataclass(frozen=True)
class SAMap(Pruner):
    """Similarity-attention merging and pruning (doi 10.20944/preprints202606.0741).

    A token joins the run before it while its mean cosine with the run reaches the threshold; runs
    are averaged by the attention that their tokens receive. Of the runs, a determinantal point
    process keeps k, its kernel the cosine times both runs' mean attention. Where fewer than k runs
    would be left, only the most similar are joined. Both stages use the attention that a token
    receives in the encoder's last layer; the authors' code takes the maximum over the heads for
    the first and each token's attention to itself for the second.
    """

    merges: ClassVar[bool] = True

    asks = False
    requires = frozenset({ENCODER_ATTENTION})
    threshold: Annotated[float, Interval(ge=-1, le=1)] = 0.85

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        embeds, total = task.tokens.embeds, len(task.tokens)
        attention = task.attention.cpu().clamp_min(LEAST_ATTENTION)
        likeness = run_similarity(unit_vectors(embeds).cpu(), self.threshold)
        likeness = likeness.masked_fill(likeness < self.threshold, -torch.inf)
        joined = torch.zeros(total - 1, dtype=torch.bool)
        joined[top_k(likeness, min(total - task.keep, int(likeness.isfinite().sum())))] = True
        starts, merge = merge_runs(joined, attention)
        sizes = merge.into.bincount().double()
        relevance = merge.into.bincount(attention.double()) / sizes
        means = merge.average(embeds.float(), len(starts))
        features = unit_vectors(means).cpu().double() * relevance[:, None]
        chosen = most_diverse(features, task.keep).sort().values
        reason = f"{total} tokens merged into {len(starts)}, {task.keep} of them unlike each other"
        return Choice(
            starts[chosen], relevance[merge.into], reason, only(merge, chosen, len(starts))
        )

    def flops(self, decoder: Any, size: PruningSize) -> int:
        pruning = size.total * size.kept * (2 * decoder.hidden_size + size.kept)
        return 6 * size.total * decoder.hidden_size + pruning


def run_similarity(units: Tensor, threshold: float) -> Tensor:
    """Mean cosine of each token but the first with the run before it, float64 `[N - 1]`.

    `units` `[N, D]`; a token joins the run where that reaches the threshold, else it begins one.
    """
    import torch

    found = torch.empty(len(units) - 1, dtype=torch.float64)
    run, size = units[0], 1
    for place, unit in enumerate(units[1:]):
        mean = (run @ unit).double().div(size).round(decimals=DECIMALS)
        found[place] = mean
        run, size = (run + unit, size + 1) if mean >= threshold else (unit, 1)
    return found


def only(merge: Merge, chosen: Tensor, runs: int) -> Merge:
    """`merge` with the `chosen` of its `runs` alone; tokens of others weigh nothing."""
    import torch

    stays = torch.zeros(runs, dtype=torch.bool).index_fill_(0, chosen, True)
    number = (stays.cumsum(0) - 1).clamp_min(0)
    return Merge(number[merge.into], merge.weights * stays[merge.into])
