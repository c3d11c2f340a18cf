"""LongRoPE: rotary frequencies for short prompts, and others once a prompt is longer than that.

transformers takes the long ones for a whole batch when a single position asks for them. Here each
row has its own; one that grows beyond the limit is read anew, as what is cached of it turned by the
short ones: transformers' own `generate` does so for one row.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


def limit_of(config: Any) -> int | None:
    """The first position that is a long prompt's; None where a model knows no such."""
    rope = config.rope_parameters
    return rope["original_max_position_embeddings"] if rope["rope_type"] == "longrope" else None


def turn_rows_by_their_own(rotary: Any) -> None:
    """Let a model's rotary embedding choose its frequencies row by row."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    limit = limit_of(rotary.config)
    if limit is None:
        return
    scales = ROPE_INIT_FUNCTIONS["longrope"]
    short, long = (scales(rotary.config, None, seq_len=limit + one)[0] for one in (0, 1))

    def forward(rotary: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        far = position_ids.amax(-1, keepdim=True) >= limit
        rates = torch.where(far, long.to(x.device), short.to(x.device))
        angles = position_ids[..., None].float() * rates[:, None]
        both = torch.cat([angles, angles], dim=-1)
        scale = rotary.attention_scaling
        return (both.cos() * scale).to(x.dtype), (both.sin() * scale).to(x.dtype)

    rotary.forward = MethodType(forward, rotary)


class LongRopeCache(DynamicCache):
    """Remembers what was read as long as some of its rows are short."""

    embeds: Tensor | None = None  # [rows, seen, D]
    positions: Tensor | None = None  # [rows, seen]

    def beyond(self, embeds: Tensor, positions: Tensor, limit: int) -> tuple[Tensor, Tensor] | None:
        """All that is to be read anew, `[rows, n, D]` and `[rows, n]`, as a row becomes long.

        None where none does with what comes next, which is remembered.
        """
        before, first = self.positions, self.get_seq_length() == 0
        if before is None and not first:
            return None  # all rows are long
        if before is not None and self.embeds is not None:
            embeds = torch.cat([self.embeds, embeds], dim=1)
            positions = torch.cat([before, positions], dim=1)
        far = positions.amax(-1) >= limit
        self.embeds, self.positions = (None, None) if far.all() else (embeds, positions)
        if before is None or not (far & (before.amax(-1) < limit)).any():
            return None
        self.reset()
        return embeds, positions

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        if self.embeds is not None and self.positions is not None:
            self.embeds, self.positions = self.embeds[indices], self.positions[indices]
