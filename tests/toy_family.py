"""A Speech LLM that shares nothing with those of transformers, to hold the seam against.

Windows of one and of two seconds in turn, 13 tokens a second whose times are nominal, no encoder
attention, queries, keys and values in one matrix, positions in three rows, a cache of its own, and
a tokenizer of bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor

from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.backends.shape import EncoderShape, Shape
from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.config import Decoder, Preset
from speechprune_cli.errors import AudioError
from speechprune_cli.flow import SAMPLE_RATE, Audio, AudioTokens, FirstLayer, PromptIds

RATE = 13
WINDOWS = (SAMPLE_RATE, 2 * SAMPLE_RATE)
END, BEGIN, SOUND, ASK, ANSWER = range(256, 261)
DECODER = {
    "model_type": "toy_decoder",
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "intermediate_size": 64,
    "vocab_size": 261,
    "max_position_embeddings": 4096,
}


class ToyShape(EncoderShape):
    """One matrix, from the levels of pieces of a token's sound to the decoder's width."""

    pieces: PositiveInt

    def tokens(self, samples: int) -> int:
        return sum(math.ceil(size * RATE / SAMPLE_RATE) for size in window_sizes(samples))

    def flops(self, seconds: float, hidden_size: int) -> int:
        return 2 * self.tokens(round(seconds * SAMPLE_RATE)) * self.pieces * hidden_size

    def bytes(self, seconds: float, bytes_per_value: int, batch_size: int = 1) -> int:
        return 2 * RATE * self.pieces * bytes_per_value


def window_sizes(samples: int) -> list[int]:
    sizes = []
    while samples > 0:
        sizes.append(min(samples, WINDOWS[len(sizes) % 2]))
        samples -= sizes[-1]
    return sizes


class ToyCache:
    """Keys and values of each layer, `[rows, kv_heads, seen, head_dim]`."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self.layers:
            seen = self.layers[layer]
            keys, values = torch.cat([seen[0], keys], 2), torch.cat([seen[1], values], 2)
        self.layers[layer] = keys, values
        return keys, values

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.layers.values())

    def fork(self) -> ToyCache:
        cache = ToyCache()
        cache.layers = dict(self.layers)
        return cache

    def batch_select_indices(self, index: Tensor) -> None:
        self.layers = {n: (keys[index], values[index]) for n, (keys, values) in self.layers.items()}


def weights(shape: Shape, seed: int = 0) -> dict[str, Tensor]:
    """Random ones of that shape."""
    draw, decoder = torch.Generator().manual_seed(seed), shape.decoder
    hidden, inner = decoder.hidden_size, decoder.intermediate_size
    width = decoder.head_dim * (decoder.num_attention_heads + 2 * decoder.num_key_value_heads)
    sizes = {
        "encoder": (hidden, shape.encoder.pieces),
        "words": (decoder.vocab_size, hidden),
        "head": (decoder.vocab_size, hidden),
    }
    for layer in range(decoder.num_hidden_layers):
        sizes |= {
            f"{layer}.qkv": (width, hidden),
            f"{layer}.out": (hidden, decoder.head_dim * decoder.num_attention_heads),
            f"{layer}.up": (inner, hidden),
            f"{layer}.gate": (inner, hidden),
            f"{layer}.down": (hidden, inner),
        }
    return {
        name: torch.randn(size, generator=draw) / size[1] ** 0.5 for name, size in sizes.items()
    }


def save_toy(folder: Path) -> Path:
    """A model folder with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "toy", "decoder": DECODER, "encoder": {"pieces": 8}}
    (folder / "config.json").write_text(json.dumps(config))
    made = weights(read_shape("toy", config))
    save_file(made, folder / "model.safetensors")
    return folder


def read_shape(name: str, config: dict[str, Any]) -> Shape:
    shape = Shape(name, "toy", Decoder(**config["decoder"]), ToyShape(**config["encoder"]), 0)
    parameters = sum(each.numel() for each in weights(shape).values())
    return Shape(name, "toy", shape.decoder, shape.encoder, parameters)


class Toy(SpeechLM):
    family: ClassVar[str] = "toy"
    model_types: ClassVar[tuple[str, ...]] = ("toy",)
    code_version: ClassVar[str] = "toy/1"
    encoder_shape: ClassVar[type[EncoderShape]] = ToyShape
    position_rows: ClassVar[int] = 3
    end_tokens = frozenset([END])

    def __init__(self, preset, shape, checkpoint, placement, weights: dict[str, Tensor]) -> None:
        super().__init__(preset, shape, checkpoint, placement)
        self.weights = {
            name: each.to(placement.device, placement.dtype) for name, each in weights.items()
        }

    @classmethod
    def load(cls, preset, checkpoint, placement):
        shape = read_shape(preset.name, checkpoint.config)
        return cls(preset, shape, checkpoint, placement, load_file(checkpoint.weights[0]))

    @classmethod
    def describe(cls, preset: Preset, folder: Path) -> Shape:
        return read_shape(preset.name, json.loads((folder / "config.json").read_text()))

    @classmethod
    def random(cls, preset, shape, placement):
        checkpoint = Checkpoint(Path(), preset.source, "random weights", {}, ())
        return cls(preset, shape, checkpoint, placement, weights(shape))

    @torch.no_grad()
    def encode(self, audio: Audio, batch_size=None, on_progress=None) -> AudioTokens:
        if not len(audio.samples):
            raise AudioError(f"{audio.source}: too short to encode")
        made, levels, starts, begun = [], [], [], 0
        sizes = window_sizes(len(audio.samples))
        for number, size in enumerate(sizes, start=1):
            features = self._features(audio.samples[begun : begun + size])
            made.append(features.to(self.weights["encoder"]) @ self.weights["encoder"].T)
            levels.append(20 * features.mean(1).clamp_min(1e-5).log10())
            starts += [begun / SAMPLE_RATE + at / RATE for at in range(len(features))]
            begun += size
            if on_progress is not None:
                on_progress(number, len(sizes))
        start = torch.tensor(starts, dtype=torch.float64)
        return AudioTokens(
            embeds=torch.cat(made),
            times=torch.stack([start, start + 1 / RATE], 1).clamp(max=audio.seconds).float(),
            per_second=RATE,
            seconds=audio.seconds,
            encode_seconds=0.0,
            loudness=torch.cat(levels),
            nominal_times=True,
        )

    def _features(self, samples: np.ndarray) -> Tensor:
        """Levels `[n, pieces]`, as loud as the window's loudest piece."""
        count, pieces = math.ceil(len(samples) * RATE / SAMPLE_RATE), self.shape.encoder.pieces
        edges = np.linspace(0, len(samples), count * pieces + 1).astype(int)
        sums = np.concatenate([[0.0], np.cumsum(np.abs(samples, dtype=np.float64))])
        level = (sums[edges[1:]] - sums[edges[:-1]]) / np.maximum(1, np.diff(edges))
        return torch.from_numpy(level / max(level.max(), 1e-9)).float().reshape(count, pieces)

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        options = zip(ascii_uppercase, choices, strict=False)
        asked = "\n".join([question, *(f"{letter}. {choice}" for letter, choice in options)])
        return PromptIds((BEGIN, SOUND), (ASK, *asked.encode(), ANSWER), f"<sound>{asked}")

    def text_ids(self, text: str) -> list[int]:
        return list(text.strip().encode())

    def text_of(self, ids: Sequence[int]) -> str:
        return bytes(each for each in ids if each < 256).decode(errors="replace")

    @property
    def word_embeddings(self) -> Tensor:
        return self.weights["words"]

    def new_cache(self) -> ToyCache:
        return ToyCache()

    def head(self, hidden: Tensor) -> Tensor:
        return hidden @ self.weights["head"].T

    def first_layer(self) -> FirstLayer:
        decoder = self.shape.decoder
        heads, kv_heads, width = (
            decoder.num_attention_heads,
            decoder.num_key_value_heads,
            decoder.head_dim,
        )
        query, key, _ = self.weights["0.qkv"].split(
            [width * n for n in (heads, kv_heads, kv_heads)]
        )
        return FirstLayer(query, key, heads, kv_heads)

    @torch.no_grad()
    def run_decoder(self, embeds, positions, mask, cache: ToyCache) -> Tensor:
        assert positions.shape == (3, *embeds.shape[:2])
        hidden = embeds
        for layer in range(self.shape.decoder.num_hidden_layers):
            hidden = hidden + self._attend(layer, _norm(hidden), positions, mask, cache)
            normed = _norm(hidden)
            up, gate, down = (self.weights[f"{layer}.{name}"] for name in ("up", "gate", "down"))
            hidden = hidden + (F.silu(normed @ gate.T) * (normed @ up.T)) @ down.T
        return _norm(hidden)

    def _attend(self, layer, hidden, positions, mask, cache) -> Tensor:
        decoder = self.shape.decoder
        heads, kv_heads = decoder.num_attention_heads, decoder.num_key_value_heads
        fused = (hidden @ self.weights[f"{layer}.qkv"].T).unflatten(-1, (-1, decoder.head_dim))
        query, key, value = fused.transpose(1, 2).split([heads, kv_heads, kv_heads], 1)
        key, value = cache.append(layer, _turned(key, positions), value)
        seen, new = key.shape[2], hidden.shape[1]
        allowed = torch.ones(new, seen, dtype=torch.bool).tril(seen - new)
        if mask is not None:
            allowed = allowed & mask[:, None, None]
            allowed = allowed | torch.eye(seen, dtype=torch.bool)[seen - new :]
        found = F.scaled_dot_product_attention(
            _turned(query, positions), key, value, attn_mask=allowed, enable_gqa=True
        )
        return found.transpose(1, 2).flatten(2) @ self.weights[f"{layer}.out"].T


def _norm(hidden: Tensor) -> Tensor:
    return F.rms_norm(hidden, hidden.shape[-1:])


def _turned(heads: Tensor, positions: Tensor) -> Tensor:
    """Rotary positions, each of the three rows for a third of the pairs."""
    half = heads.shape[-1] // 2
    speeds = 100.0 ** (-torch.arange(half) / half)
    rows = positions.repeat_interleave(half // 3, 0).permute(1, 2, 0)
    angles = (rows * speeds).unsqueeze(1).to(heads)
    first, second = heads.chunk(2, -1)
    sine, cosine = angles.sin(), angles.cos()
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
