"""What can be told of audio tokens on the way: how loud they are, what the encoder attends to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

QUIETEST = -100.0  # dB of full scale; 16-bit silence is at -98


def loudness(samples: np.ndarray, times: Tensor, rate: int) -> Tensor:
    """Level of the sound under each token, float32 `[N]` in dB of full scale.

    `samples` `[T]` at `rate`, `times` `[N, 2]` in seconds. The root mean square counts.
    """
    energy = torch.from_numpy(np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)]))
    first, last = (times.double() * rate).round().long().clamp(0, len(samples)).T
    power = (energy[last] - energy[first]) / (last - first).clamp_min(1)
    return (10 * power.clamp_min(10 ** (QUIETEST / 10)).log10()).float()


@contextmanager
def attention_received(attention: nn.Module) -> Iterator[list[Tensor]]:
    """Watch an encoder's self-attention: a tensor `[B, T]` for every time it runs.

    It has the attention that each of T positions receives, the mean over heads and over the
    queries that are not masked, times the number of these: 1 is a fair share. One `[T, T]` is
    held at a time. The module's own output is not touched.
    """
    seen: list[Tensor] = []

    def watch(module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden = inputs[0] if inputs else named["hidden_states"]
        mask = inputs[1] if len(inputs) > 1 else named.get("attention_mask")
        seen.append(_received(module, hidden, mask))

    handle = attention.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _received(attention: Any, hidden: Tensor, mask: Tensor | None) -> Tensor:
    batch, steps, _ = hidden.shape
    heads = attention.num_heads
    queries = (attention.q_proj(hidden) * attention.scaling).unflatten(-1, (heads, -1))
    keys = attention.k_proj(hidden).unflatten(-1, (heads, -1))
    total = torch.zeros(batch, steps, device=hidden.device)
    for row, valid in enumerate(_valid_steps(mask, batch, steps)):
        for head in range(heads):
            logits = queries[row, :valid, head] @ keys[row, :valid, head].T
            total[row, :valid] += logits.softmax(-1, dtype=torch.float32).sum(0)
    return total / heads


def _valid_steps(mask: Tensor | None, batch: int, steps: int) -> list[int]:
    """How many positions of each row, from the first on, may be attended to."""
    if mask is None:
        return [steps] * batch
    last = mask[:, 0, -1].expand(batch, steps)
    return [int(row) for row in (last if last.dtype == torch.bool else last >= 0).sum(-1)]
