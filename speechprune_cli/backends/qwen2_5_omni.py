"""Qwen2.5-Omni: a Whisper encoder cut into blocks of 2 s, a projector, a Qwen2 decoder.

The stock processor keeps the first 300 s of a recording and drops the rest in silence. Here every
300 s get mel frames of their own, as no block hears beyond itself, and their tokens are joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from speechprune_cli.backends._thinker import Thinker
from speechprune_cli.backends.packed import PackedShape
from speechprune_cli.backends.shape import HOP
from speechprune_cli.flow import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from speechprune_cli.backends.shape import Shape


class Qwen25OmniShape(PackedShape):
    """A token for every four mel frames."""

    joined: ClassVar[int] = 2

    @property
    def block(self) -> int:
        return 2 * self.n_window

    def frames(self, samples: int) -> int:
        return -(-samples // HOP)

    def positions(self, frames: int) -> int:
        return -(-frames // 2)

    def outer_flops(self, frames: int, hidden_size: int) -> int:
        """Convolutions over blocks as long as the longest, the projector over tokens."""
        blocks, width = -(-frames // self.block), self.d_model
        padded = min(frames, self.block)
        first = blocks * padded * 3 * self.num_mel_bins * width
        second = blocks * self.positions(padded) * 3 * width**2
        return 2 * (first + second + self.positions(frames) // 2 * width * hidden_size)


class Qwen25Omni(Thinker):
    """A `Qwen2_5OmniThinkerForConditionalGeneration`, stock."""

    family = "qwen2_5_omni"
    model_types = ("qwen2_5_omni_thinker", "qwen2_5_omni")
    code_version = "qwen2_5_omni/1"
    encoder_shape = Qwen25OmniShape
    model_class = "Qwen2_5OmniThinkerForConditionalGeneration"

    @classmethod
    def config_of(cls, shape: Shape) -> Any:
        """Its rotary positions are laid out for heads of 128, unless they are told otherwise."""
        config = super().config_of(shape)
        eighth = shape.decoder.head_dim // 8
        rows = [eighth, *[(shape.decoder.head_dim // 2 - eighth) // 2] * 2]
        config.text_config.rope_parameters["mrope_section"] = rows
        return config

    def features(self, audio: Audio) -> Tensor:
        import torch

        size = self.extractor.n_samples
        pieces = [audio.samples[at : at + size] for at in range(0, len(audio.samples), size)]
        return torch.cat([self._mel_frames(piece) for piece in pieces], dim=-1)

    def _mel_frames(self, samples: np.ndarray) -> Tensor:
        """As with the silence that the stock processor adds, of which the last frame hears some."""
        import numpy as np

        silence = min(self.extractor.n_fft, self.extractor.n_samples - len(samples))
        found: Tensor = self.extractor(
            np.pad(samples, (0, silence)),
            sampling_rate=SAMPLE_RATE,
            padding=True,
            truncation=False,
            return_tensors="pt",
        )["input_features"][0]
        return found[:, : self.encoder.frames(len(samples))]
