"""Sets of vectors that span a large volume: long ones that are unlike each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

EXHAUSTED = 1e-6
DECIMALS = 9  # of what is left of a vector, so that equal ones tie; the earlier one wins


def most_diverse(features: Tensor, count: int) -> Tensor:
    """`count` rows of `features` `[N, D]`, numbers int64 `[count]` in the order of choosing.

    Of a determinantal point process whose kernel is the rows' Gram matrix, the set of the largest
    determinant, sought greedily (arXiv 1709.05135) in time N k^2, memory N k. The kernel has rank
    D: once its directions are used up, a new process starts on what is left.
    """
    import torch

    kept = torch.empty(0, dtype=torch.int64)
    while len(kept) < count:
        left = torch.ones(len(features), dtype=torch.bool).index_fill_(0, kept, False)
        places = left.nonzero().flatten()
        more = places[largest_determinant(features[places], count - len(kept))]
        kept = torch.cat([kept, more])
    return kept


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
