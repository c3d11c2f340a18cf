"""Teaches attention heads where to look: at the sentence that answers, at the word to say next.

From answers alone a small model learns this late: a wrong answer says nothing about where the right
one stands. Here the place is known, and the heads that came to look there by themselves in a model
trained without (measured by their share of attention) are told so directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from speechprune_cli.training.packing import NOTHING, Row

HEADS = {3: (0, 1, 2), 4: (0, 3)}
"""By layer."""


@contextmanager
def watched(layers: nn.ModuleList) -> Iterator[dict[int, dict[str, Any]]]:
    """What the attention of each layer of HEADS is given while the model runs."""
    given: dict[int, dict[str, Any]] = {}

    def watch(number: int) -> Any:
        return cast(nn.Module, layers[number].self_attn).register_forward_pre_hook(
            lambda _, __, arguments: given.update({number: arguments}), with_kwargs=True
        )

    hooks = [watch(number) for number in HEADS]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def looking_loss(
    layers: nn.ModuleList, given: dict[int, dict[str, Any]], row: Row, seen: Tensor
) -> Tensor:
    """Minus the log of the attention, mean over heads, that reaches what an answer's token is from.

    Half of it counts the whole sentence that answers, half the places in it where that very token
    is heard; an answer's end, which is heard nowhere, counts for its sentence alone.
    """
    due = (row.source != NOTHING).nonzero()[:, 0]
    if not len(due):
        return torch.zeros((), device=seen.device)
    sentence = row.source[due, None] == row.sentence[None]
    word = sentence & (row.targets[due, None] == row.said[None])
    losses = []
    for number, heads in HEADS.items():
        attention: Any = layers[number].self_attn
        shares = _log_attention(attention, given[number], due, seen[due])[list(heads)]
        losses.append(-(_reaching(shares, sentence) + _reaching(shares, word)) / 2)
    return torch.stack(losses).mean()


def _log_attention(attention: Any, given: dict[str, Any], rows: Tensor, seen: Tensor) -> Tensor:
    """Log attention of `rows` to all positions, `[heads, R, n]`."""
    hidden, (cos, sin) = given["hidden_states"][0], given["position_embeddings"]
    width = attention.head_dim
    q = F.linear(hidden, attention.q_proj.weight).unflatten(-1, (-1, width)).transpose(0, 1)
    k = F.linear(hidden, attention.k_proj.weight).unflatten(-1, (-1, width)).transpose(0, 1)
    q, k = apply_rotary_pos_emb(q[None], k[None], cos, sin)
    logits = (q[0, :, rows] @ k[0].mT).float() * attention.scaling
    return logits.masked_fill(~seen, -torch.inf).log_softmax(-1)


def _reaching(shares: Tensor, places: Tensor) -> Tensor:
    """Log of the attention to `places` `[R, n]`, mean over heads and the rows that have a place."""
    rows = places.any(-1)
    if not rows.any():
        return shares.new_zeros(())
    return shares[:, rows].masked_fill(~places[rows], -torch.inf).logsumexp(-1).mean()
