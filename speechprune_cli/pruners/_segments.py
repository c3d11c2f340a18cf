"""Stretches of a recording that belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SHORTEST = 3 / 11  # of the longest segment
SMOOTHING = 3  # tokens that loudness is averaged over: no border within a stop consonant


def quiet_segments(loudness: Tensor, per_second: float, longest_seconds: float) -> Tensor:
    """Number of the segment that each token belongs to, int64 `[N]`, counted from 0.

    From the start of the recording on, each segment ends at the quietest token, by `loudness`
    `[N]`, that makes it neither shorter nor longer than allowed.
    """
    import torch
    from torch.nn.functional import avg_pool1d

    allowed = SHORTEST * longest_seconds, longest_seconds
    shortest, longest = (max(1, round(each * per_second)) for each in allowed)
    level = avg_pool1d(loudness[None].double(), SMOOTHING, 1, SMOOTHING // 2, False, False)[0]
    starts = torch.zeros(len(loudness), dtype=torch.int64)
    start = 0
    while len(loudness) - start > longest:
        start += shortest + int(level[start + shortest : start + longest + 1].argmin())
        starts[start] = 1
    return starts.cumsum(0)


def equal_segments(total: int, tokens: float) -> Tensor:
    """Number of the segment that each of `total` tokens belongs to, `tokens` to a segment."""
    import torch

    return (torch.arange(total, dtype=torch.float64) / tokens).long()
