"""Merging of neighbouring tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechprune_cli.budget import top_k
from speechprune_cli.flow import Merge
from speechprune_cli.pruners._similarity import unit_vectors

if TYPE_CHECKING:
    from torch import Tensor


def neighbour_similarity(units: Tensor) -> Tensor:
    """Cosine of each token with the next one, `[N - 1]`, of unit vectors `[N, D]`."""
    return (units[:-1] * units[1:]).sum(-1)


def merge_alike(embeds: Tensor, keep: int, weights: Tensor) -> tuple[Tensor, Merge]:
    """`merge_runs` of the N - `keep` most similar neighbours of `embeds` `[N, D]`."""
    import torch

    similarity = neighbour_similarity(unit_vectors(embeds)).cpu()
    joined = torch.zeros(len(embeds) - 1, dtype=torch.bool)
    joined[top_k(similarity, len(embeds) - keep)] = True
    return merge_runs(joined, weights)


def merge_runs(joined: Tensor, weights: Tensor) -> tuple[Tensor, Merge]:
    """The token that stands for each run, int64 `[k]`, and how runs are averaged.

    `joined` `[N - 1]` says whether a token belongs to the run of the one before it; `weights`
    `[N]` are those of the average. A run is placed at its first token.
    """
    import torch

    starts = torch.cat([torch.ones(1, dtype=torch.bool), ~joined])
    return starts.nonzero().flatten(), Merge(starts.cumsum(0) - 1, weights.float())
