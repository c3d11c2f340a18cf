"""Decoders of Llama's kind in plain torch: Llama, Mistral, SmolLM2, Qwen2, Qwen2.5, Qwen3.

transformers' classes take twice as long to import as torch does, and a question about a recording
that is known already waits for nothing more than for that. This file computes the same, from the
same `config.json` and weights of the same names: `tests/test_llama.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("llama", "mistral", "qwen2", "qwen3")  # as `config.json` calls them


def understood(config: Mapping[str, Any]) -> bool:
    """Whether this file computes what transformers does for a `config.json`."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    sliding = "sliding_attention" in config.get("layer_types", ()) or (
        config.get("sliding_window") and config.get("use_sliding_window", True)
    )
    return (
        config.get("model_type") in KINDS
        and config.get("hidden_act", "silu") == "silu"
        and rope.get("rope_type", rope.get("type", "default")) == "default"
        and not sliding
    )


@dataclass
class KVCache:
    """Keys and values `[rows, heads, seen, head_dim]` of every layer."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, the new ones at the end."""
        if layer == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], key], dim=2)
            self.values[layer] = torch.cat([self.values[layer], value], dim=2)
        return self.keys[layer], self.values[layer]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.keys, self.values, strict=True)

    @property
    def seen(self) -> int:
        """Tokens read so far."""
        return self.keys[0].shape[2] if self.keys else 0

    def batch_select_indices(self, rows: Tensor) -> None:
        """Go on with copies of `rows`."""
        self.keys = [each[rows] for each in self.keys]
        self.values = [each[rows] for each in self.values]

    def fork(self) -> KVCache:
        """One that goes on by itself: what was read is shared, and never written to."""
        return KVCache(list(self.keys), list(self.values))


class LlamaDecoder:
    """The language model without its output head."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """`weights` by the names of the checkpoint, on their device, in one dtype."""
        self.weights, self.layers = weights, config["num_hidden_layers"]
        self.epsilon, heads = config["rms_norm_eps"], config["num_attention_heads"]
        self.groups = heads // (config.get("num_key_value_heads") or heads)
        self.head_dim = config.get("head_dim") or config["hidden_size"] // heads
        rope = config.get("rope_parameters") or config
        powers = torch.arange(0, self.head_dim, 2, dtype=torch.int64).float() / self.head_dim
        self.frequencies = 1.0 / (rope.get("rope_theta", 10_000.0) ** powers)

    def __call__(
        self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: KVCache
    ) -> Tensor:
        """Hidden states `[rows, n, D]`: as `SpeechLM.run_decoder`."""
        allowed = _allowed(embeds.shape[1], cache.seen, mask, embeds.device)
        turns = self._turns(positions, embeds.dtype)
        hidden = embeds
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            normed = self._norm(hidden, f"{name}.input_layernorm")
            hidden = hidden + self._attend(
                normed, f"{name}.self_attn", layer, turns, allowed, cache
            )
            normed = self._norm(hidden, f"{name}.post_attention_layernorm")
            gated = F.silu(self._linear(normed, f"{name}.mlp.gate_proj"))
            up = self._linear(normed, f"{name}.mlp.up_proj")
            hidden = hidden + self._linear(gated * up, f"{name}.mlp.down_proj")
        return self._norm(hidden, "model.norm")

    def _attend(
        self,
        hidden: Tensor,
        name: str,
        layer: int,
        turns: tuple[Tensor, Tensor],
        allowed: Tensor | None,
        cache: KVCache,
    ) -> Tensor:
        query, key, value = (
            self._linear(hidden, f"{name}.{kind}_proj").unflatten(-1, (-1, self.head_dim))
            for kind in "qkv"
        )
        if f"{name}.q_norm.weight" in self.weights:  # Qwen3
            query, key = self._norm(query, f"{name}.q_norm"), self._norm(key, f"{name}.k_norm")
        query, key = (_turned(each.transpose(1, 2), turns) for each in (query, key))
        key, value = cache.append(layer, key, value.transpose(1, 2))
        if self.groups > 1 and allowed is not None:
            key, value = (each.repeat_interleave(self.groups, dim=1) for each in (key, value))
        found = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=allowed,
            is_causal=allowed is None and query.shape[2] > 1,
            enable_gqa=key.shape[1] < query.shape[1],
        )
        return self._linear(found.transpose(1, 2).flatten(2), f"{name}.o_proj")

    def _turns(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[rows, 1, n, head_dim]` of rotary positions."""
        angles = positions[:, :, None].float() * self.frequencies.to(positions.device)
        angles = torch.cat([angles, angles], dim=-1)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _linear(self, hidden: Tensor, name: str) -> Tensor:
        return F.linear(hidden, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _norm(self, hidden: Tensor, name: str) -> Tensor:
        """RMSNorm, its mean taken in float32."""
        exact = hidden.float()
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return self.weights[f"{name}.weight"] * exact.to(hidden.dtype)


def _turned(heads: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    cosine, sine = turns
    return heads * cosine + torch.cat([-second, first], dim=-1) * sine


def _allowed(new: int, seen: int, mask: Tensor | None, device: torch.device) -> Tensor | None:
    """Who may look at whom, bool `[rows or 1, 1, new, seen + new]`; None where a flag says it."""
    if mask is None and (seen == 0 or new == 1):
        return None
    causal = torch.ones(new, seen + new, dtype=torch.bool, device=device).tril(seen)
    if mask is None:
        return causal[None, None]
    # padding looks at itself, so that no row is without anything to look at
    itself = causal.triu(seen)
    return (causal & mask[:, None, None]) | itself
