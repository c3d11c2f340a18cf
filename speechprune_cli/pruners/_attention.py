"""Binarized first-layer attention that each audio token receives (eq. 10 to 13)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from speechprune_cli.flow import FirstLayer

if TYPE_CHECKING:
    from torch import Tensor, dtype

Scale = Literal["paper", "normalised"]
Heads = Literal["mean", "max"]

QUERIES_PER_BLOCK = 128
RESOLUTION = 2**20


def attention_received(
    embeds: Tensor,
    layer: FirstLayer,
    scale: Scale,
    heads: Heads,
    queries_per_block: int = QUERIES_PER_BLOCK,
) -> Tensor:
    """Attention that each token receives over all queries, float32 `[n]` on the CPU.

    `embeds` `[n, D]` are the tokens that compete. The mean of eq. 13 is taken over queries (over
    keys it is 1/n for every token), then over heads, or the highest head counts; times n, so that
    1 is a token's fair share. `scale` divides the logits by sqrt(d_k) or by their own standard
    deviation. Memory is linear in n: no `[n, n]` matrix is ever held.

    Values are rounded to `1 / RESOLUTION`: an almost one-hot softmax makes tokens that receive
    nothing, or one query each, and these must tie exactly in whatever order a device sums.
    """
    import torch

    queries, keys = _project(embeds, layer)
    group = layer.heads // layer.kv_heads
    each_head = [
        _received(query, keys[head // group], scale, queries_per_block)
        for head, query in enumerate(queries)
    ]
    received = torch.stack(each_head)
    over_heads = received.mean(0) if heads == "mean" else received.amax(0)
    return (over_heads * RESOLUTION).round().div(RESOLUTION).float().cpu()


def _project(embeds: Tensor, layer: FirstLayer) -> tuple[Tensor, Tensor]:
    """Binarized queries `[heads, n, d_k]` and keys `[kv_heads, n, d_k]`: integers in float32."""
    signs = embeds.to(layer.q_weight.device).float().sign()
    queries = _product(*_narrow(signs, layer.q_weight.float().sign()))
    keys = _product(*_narrow(signs, layer.k_weight.float().sign()))
    return (
        queries.unflatten(-1, (layer.heads, -1)).transpose(0, 1),
        keys.unflatten(-1, (layer.kv_heads, -1)).transpose(0, 1),
    )


def _received(queries: Tensor, keys: Tensor, scale: Scale, queries_per_block: int) -> Tensor:
    """Column sums `[n]` of one head's attention, a block of `queries` `[n, d_k]` at a time.

    Logits and their distance to the row's maximum are exact integers (below 2**24, which
    |q| |k| of 7B models stays far under), so only the exponential rounds.
    """
    import torch

    factor = _deviation(queries, keys) if scale == "normalised" else math.sqrt(keys.shape[-1])
    total = torch.zeros(len(keys), dtype=_widest(keys), device=keys.device)
    queries, keys = _narrow(queries, keys)
    for block in queries.split(queries_per_block):
        logits = _product(block, keys)
        below_best = logits.sub_(logits.amax(-1, keepdim=True))
        total += below_best.div_(factor).softmax(-1).sum(0, dtype=total.dtype)
    return total


def _narrow(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Integers in float32 as int8 where they fit and a CPU multiplies those four times faster.

    Their `_product` is the same integers either way.
    """
    import torch

    fast = left.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"
    if fast and max(left.abs().max(), right.abs().max()) <= 127:
        return left.to(torch.int8), right.to(torch.int8)
    return left, right


def _product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right.T` of integers, in float32 `[rows of left, rows of right]`."""
    import torch

    if left.dtype == torch.int8:
        return torch._int_mm(left, right.T).float()
    return left @ right.T


def _widest(tensor: Tensor) -> dtype:
    """The widest float of the tensor's device, for sums: float64 but on Apple's GPUs."""
    import torch

    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _deviation(queries: Tensor, keys: Tensor) -> float:
    """Standard deviation of all n*n logits of one head, from `[d_k, d_k]` matrices alone.

    sum_ij (q_i k_j)^2 = <Q'Q, K'K>. It is 1 where all logits are equal, as any scale then does.
    """
    queries, keys = queries.to(_widest(queries)), keys.to(_widest(keys))
    square = ((queries.T @ queries) * (keys.T @ keys)).sum() / len(keys) ** 2
    mean = queries.mean(0) @ keys.mean(0)
    variance = float(square - mean**2)
    return math.sqrt(variance) if variance > 1e-9 * float(square) else 1.0
