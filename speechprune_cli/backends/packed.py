"""Encoders of mel frames in blocks that attend to themselves alone, packed one behind another.

They hear a recording in one go, whatever its length. Here it is encoded in windows of whole blocks,
which is the same.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt

from speechprune_cli.backends.shape import BATCH_SIZE, HOP, EncoderShape
from speechprune_cli.backends.windowed import EncodedWindows, WindowedLM
from speechprune_cli.flow import ENCODER_ATTENTION, SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from torch import Tensor

WINDOW_FRAMES = 3000  # about, that are encoded as one
FRAMES_PER_SECOND = SAMPLE_RATE // HOP


class PackedShape(EncoderShape):
    """Convolutions over mel frames, and layers whose attention stays within a block."""

    joined: ClassVar[int] = 1  # positions of the layers that make one token
    d_model: PositiveInt
    encoder_layers: PositiveInt
    encoder_attention_heads: PositiveInt
    encoder_ffn_dim: PositiveInt
    num_mel_bins: PositiveInt
    n_window: PositiveInt  # half the frames that are convolved as one

    @property
    @abstractmethod
    def block(self) -> int:
        """Mel frames that attend to one another."""

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Mel frames of so many samples at 16 kHz."""

    @abstractmethod
    def positions(self, frames: int) -> int:
        """What the layers see of mel frames, from the start of a block on."""

    @abstractmethod
    def outer_flops(self, frames: int, hidden_size: int) -> int:
        """What comes before the layers and after them."""

    @property
    def window(self) -> int:
        """Mel frames that are encoded as one: whole blocks."""
        return self.block * max(1, WINDOW_FRAMES // self.block)

    def tokens(self, samples: int) -> int:
        return self.positions(self.frames(samples)) // self.joined

    def flops(self, seconds: float, hidden_size: int) -> int:
        frames, width = self.frames(round(seconds * SAMPLE_RATE)), self.d_model
        whole, rest = divmod(frames, self.block)
        linears = 2 * self.positions(frames) * (4 * width**2 + 2 * width * self.encoder_ffn_dim)
        pairs = whole * self.positions(self.block) ** 2 + self.positions(rest) ** 2
        layers = self.encoder_layers * (linears + 4 * pairs * width)
        return layers + self.outer_flops(frames, hidden_size)

    def bytes(self, seconds: float, bytes_per_value: int, batch_size: int = BATCH_SIZE) -> int:
        """Activations of the windows that are encoded side by side, about, and all mel frames."""
        frames = self.frames(round(seconds * SAMPLE_RATE))
        held = self.values(min(frames, batch_size * self.window)) * bytes_per_value
        return held + round(seconds * self.feature_bytes)

    def values(self, frames: int) -> int:
        """Held while so many mel frames are encoded, about."""
        return self.positions(frames) * (8 * self.d_model + 2 * self.encoder_ffn_dim)

    @property
    def feature_bytes(self) -> int:
        """Of a second of recording while its mel frames are computed, all of it at once."""
        return FRAMES_PER_SECOND * (201 * (8 + 4) + 3 * self.num_mel_bins * 4)


class PackedLM(WindowedLM):
    """A model with such an encoder, which is called `model.audio_tower`."""

    provides = frozenset({ENCODER_ATTENTION})
    model: Any

    @abstractmethod
    def features(self, audio: Audio) -> Tensor:
        """Mel frames `[bins, F]` of a recording."""

    @abstractmethod
    def run_encoder(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Tokens `[n, D]` of mel frames `[bins, F]`, of windows of `lengths` `[W]` each."""

    def windows(self, audio: Audio) -> Sequence[Tensor]:
        """Mel frames `[bins, F]` of some whole blocks each."""
        return self.features(audio).split(self.encoder.window, dim=-1)

    def encode_windows(self, windows: Sequence[Tensor]) -> EncodedWindows:
        """Tokens of windows in a row, and the attention they receive in the last layer."""
        import torch

        from speechprune_cli.backends.listening import attention_received

        lengths = torch.tensor([each.shape[-1] for each in windows], device=self.device)
        features = torch.cat(list(windows), dim=-1).to(self.device)
        with attention_received(self.model.model.audio_tower.layers[-1].self_attn) as received:
            tokens = self.run_encoder(features, lengths)
        joined = received[0][: len(tokens) * self.encoder.joined]
        return EncodedWindows(tokens, joined.reshape(len(tokens), self.encoder.joined).mean(-1))
