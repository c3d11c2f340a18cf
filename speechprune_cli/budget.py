"""How many tokens each second may keep, and which ones: budgets and deterministic top-k.

Everything here works on short CPU vectors, so that the same scores give the same tokens whatever
device computed them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

BudgetMode = Literal["exact", "faithful"]


def top_k(scores: Tensor, k: int, tie_break: Tensor | None = None) -> Tensor:
    """Sorted int64 indices of the `k` highest of `scores` `[N]` (all of them where k > N).

    Equal scores are decided by the higher `tie_break` `[N]`, then by the lower index.
    """
    import torch

    if tie_break is None:
        order = torch.arange(len(scores))
    else:
        order = tie_break.argsort(descending=True, stable=True)
    order = order[scores[order].argsort(descending=True, stable=True)]
    return order[:k].sort().values


def top_per_frame(scores: Tensor, frames: Tensor, quotas: Tensor) -> Tensor:
    """Sorted int64 indices of the `quotas[i]` highest `scores` in every frame i (eq. 8).

    `scores` `[N]`, `frames` `[N]` names each token's frame, `quotas` `[m]`. A quota above the
    frame's size keeps the whole frame. Equal scores are decided by the lower index.
    """
    import torch

    order = scores.argsort(descending=True, stable=True)
    order = order[frames[order].argsort(stable=True)]
    sizes = frames.bincount(minlength=len(quotas))
    rank_in_frame = torch.arange(len(scores)) - (sizes.cumsum(0) - sizes)[frames[order]]
    return order[rank_in_frame < quotas[frames[order]]].sort().values


def frame_quotas(
    frame_scores: Tensor,
    frame_sizes: Tensor,
    budget: int,
    mode: BudgetMode = "exact",
    temperature: float = 1.0,
) -> Tensor:
    """Tokens to retain from each one-second frame, int64 `[m]` (eq. 6 and 7).

    `frame_scores` `[m]` go through a softmax at `temperature`; `frame_sizes` `[m]` are counts of
    tokens. `faithful` is the paper's `floor(budget * p)`: it misses the budget, as the fractions
    are lost and a quota may exceed its frame. `exact` caps each share at the frame's size, gives
    what is over to the other frames in proportion, and rounds by largest remainder, so that the
    quotas sum to `budget`. A budget of all tokens or more keeps all of them, in either mode.
    """
    if budget >= frame_sizes.sum():
        return frame_sizes.clone()
    logits = frame_scores.double() / temperature
    if mode == "faithful":
        return (budget * logits.softmax(0)).floor().long()
    shares = _water_fill(logits, frame_sizes, budget)
    quotas = shares.floor().long()
    quotas[top_k(shares - quotas, budget - int(quotas.sum()))] += 1
    return quotas


def _water_fill(logits: Tensor, sizes: Tensor, budget: int) -> Tensor:
    """Shares proportional to `exp(logits)`, capped at `sizes`, that sum to `budget`."""
    import torch

    shares = sizes.double()
    still_open = torch.ones_like(sizes, dtype=torch.bool)
    while still_open.any():
        rest = budget - sizes[~still_open].sum()
        shares[still_open] = rest * logits[still_open].softmax(0)
        overfull = still_open & (shares >= sizes)
        if not overfull.any():
            break
        shares[overfull] = sizes[overfull].double()
        still_open &= ~overfull
    return shares
