"""What can be told of audio tokens on the way: how loud they are, what the encoder attends to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BLOCK = 2**22  # samples whose energy is summed at once: hours would take gigabytes
QUIETEST = -100.0  # dB of full scale; 16-bit silence is at -98


def loudness(samples: np.ndarray, times: Tensor, rate: int) -> Tensor:
    """Level of the sound under each token, float32 `[N]` in dB of full scale.

    `samples` `[T]` at `rate`, `times` `[N, 2]` in seconds. The root mean square counts.
    """
    edges = (times.double() * rate).round().long().clamp(0, len(samples))
    places, at = edges.unique(return_inverse=True)
    first, last = torch.from_numpy(_energy_before(samples, places.numpy()))[at].T
    power = (last - first) / (edges[:, 1] - edges[:, 0]).clamp_min(1)
    return (10 * power.clamp_min(10 ** (QUIETEST / 10)).log10()).float()


def _energy_before(samples: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Sum of squares of all samples before each of the sorted `places`, block by block."""
    total, found = 0.0, np.zeros(len(places))
    for at in range(0, len(samples), BLOCK):
        sums = np.cumsum(np.square(samples[at : at + BLOCK], dtype=np.float64))
        inside = slice(*np.searchsorted(places, (at, at + len(sums)), side="right"))
        found[inside] = total + sums[places[inside] - at - 1]
        total += float(sums[-1])
    return found


@contextmanager
def attention_received(attention: nn.Module) -> Iterator[list[Tensor]]:
    """Watch an encoder's self-attention: a tensor `[B, T]` for every time it runs.

    It has the attention that each of T positions receives, the mean over heads and over the
    queries that are not masked, times the number of these: 1 is a fair share. One `[T, T]` is
    held at a time. Blocks that are packed one behind another, each attending to itself alone, give
    a tensor `[T]`. The module's own output is not touched.
    """
    seen: list[Tensor] = []

    def watch(module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden = inputs[0] if inputs else named["hidden_states"]
        if (edges := named.get("cu_seqlens")) is not None:
            seen.append(_received_in_blocks(module, hidden, edges.tolist()))
            return
        mask = inputs[1] if len(inputs) > 1 else named.get("attention_mask")
        seen.append(_received(module, hidden, mask, named.get("position_embeddings")))

    handle = attention.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _received(
    attention: Any, hidden: Tensor, mask: Tensor | None, rotary: tuple[Tensor, Tensor] | None
) -> Tensor:
    batch, steps, _ = hidden.shape
    width = attention.head_dim
    queries = (attention.q_proj(hidden) * attention.scaling).unflatten(-1, (-1, width))
    keys = attention.k_proj(hidden).unflatten(-1, (-1, width))
    if rotary is not None:
        queries, keys = _turned(queries, *rotary), _turned(keys, *rotary)
    heads = queries.shape[2]
    total = torch.zeros(batch, steps, device=hidden.device)
    for row, valid in enumerate(_valid_steps(mask, batch, steps)):
        for head in range(heads):
            logits = queries[row, :valid, head] @ keys[row, :valid, head].T
            total[row, :valid] += logits.softmax(-1, dtype=torch.float32).sum(0)
    return total / heads


def _turned(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """`[B, T, heads, width]` by rotary positions `[B, T, r]`, which may be of the first r alone."""
    rotating = cosine.shape[-1]
    turning, still = states[..., :rotating], states[..., rotating:]
    first, second = turning.chunk(2, -1)
    across = torch.cat([-second, first], -1)
    turned = turning * cosine.unsqueeze(2) + across * sine.unsqueeze(2)
    return torch.cat([turned, still], -1)


def _received_in_blocks(attention: Any, hidden: Tensor, edges: list[int]) -> Tensor:
    blocks = [hidden[None, first:last] for first, last in pairwise(edges)]
    return torch.cat([_received(attention, block, None, None)[0] for block in blocks])


def _valid_steps(mask: Tensor | None, batch: int, steps: int) -> list[int]:
    """How many positions of each row, from the first on, may be attended to."""
    if mask is None:
        return [steps] * batch
    last = mask[:, 0, -1].expand(batch, steps)
    return [int(row) for row in (last if last.dtype == torch.bool else last >= 0).sum(-1)]
