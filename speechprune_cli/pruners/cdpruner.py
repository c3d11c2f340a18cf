"""Tokens relevant to the question and unlike each other (CDPruner, arXiv 2506.10967)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._similarity import token_similarity, unit_vectors
from speechprune_cli.pruners.base import Choice, Pruner

if TYPE_CHECKING:
    from torch import Tensor

EXHAUSTED = 1e-6
DECIMALS = 9  # of what is left of a token, so that equal tokens tie; the earlier one wins


class CDPruner(Pruner):
    """A determinantal point process whose kernel is cosine times both tokens' relevance.

    Relevance is the mean cosine with the question, scaled to 0 to 1 over the recording. The set
    of the largest determinant is sought greedily (arXiv 1709.05135) in time N k^2, memory N k. The
    kernel has rank D: once its directions are used up, a new process starts on what is left.
    """

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        relevance = token_similarity(task.tokens.embeds, task.text).double()
        spread = relevance.max() - relevance.min()
        relevance = (relevance - relevance.min()) / spread if spread > 0 else relevance * 0 + 1
        features = unit_vectors(task.tokens.embeds).cpu().double()
        features *= (relevance + EXHAUSTED)[:, None]
        kept = torch.empty(0, dtype=torch.int64)
        while len(kept) < task.keep:
            left = torch.ones(len(features), dtype=torch.bool).index_fill_(0, kept, False)
            places = left.nonzero().flatten()
            more = places[largest_determinant(features[places], task.keep - len(kept))]
            kept = torch.cat([kept, more])
        reason = f"{task.keep} tokens relevant to the question and unlike each other"
        return Choice(kept.sort().values, relevance, reason)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        return size.total * size.kept * (2 * decoder.hidden_size + size.kept)


def largest_determinant(features: Tensor, count: int) -> Tensor:
    """At most `count` rows of `features` `[N, D]` whose Gram matrix has a large determinant.

    Greedy, by an incremental Cholesky decomposition; at least one row, and fewer than `count` once
    what is left lies in the span of those chosen, after D rows at the latest.
    """
    import torch

    count = min(count, features.shape[1])
    residual = features.square().sum(1)
    enough = EXHAUSTED * float(residual.max())
    basis = torch.zeros(count, len(features), dtype=features.dtype)
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(residual.round(decimals=DECIMALS).argmax())
        if chosen and residual[best] <= enough:
            break
        done = len(chosen)
        kernel = features @ features[best]
        length = residual[best].clamp_min(torch.finfo(features.dtype).tiny).sqrt()
        basis[done] = (kernel - basis[:done, best] @ basis[:done]) / length
        residual -= basis[done].square()
        residual[best] = -torch.inf
        chosen.append(best)
    return torch.tensor(chosen)
