"""The encoder AuT, of Qwen's models from Qwen3-Omni on: 13 tokens to a second of its own.

Mel frames are convolved a second at a time, each with nothing of its neighbours, and the layers
attend within some seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PositiveInt

from speechprune_cli.backends.packed import PackedLM, PackedShape
from speechprune_cli.backends.shape import HOP
from speechprune_cli.flow import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from torch import Tensor

STRIDE = 8  # mel frames to a position, of three convolutions
SHORTEST = 200  # samples that an end reflects, and needs one more than


class AutShape(PackedShape):
    """Each key as transformers names it."""

    n_window_infer: PositiveInt  # mel frames that attend to one another
    downsample_hidden_size: PositiveInt

    @property
    def block(self) -> int:
        return self.n_window_infer

    @property
    def chunk(self) -> int:
        """Mel frames that are convolved as one."""
        return 2 * self.n_window

    def frames(self, samples: int) -> int:
        return samples // HOP if samples > SHORTEST else 0

    def positions(self, frames: int) -> int:
        whole, rest = divmod(frames, self.chunk)
        return whole * -(-self.chunk // STRIDE) + -(-rest // STRIDE)

    def outer_flops(self, frames: int, hidden_size: int) -> int:
        """Three convolutions over chunks as long as the longest; what projects what they see."""
        chunks, padded = -(-frames // self.chunk), self.padded(frames)
        channels, height, length, before = self.downsample_hidden_size, self.num_mel_bins, padded, 1
        convolved = 0
        for _ in range(3):
            height, length = -(-height // 2), -(-length // 2)
            convolved += 9 * before * channels * height * length
            before = channels
        convolved += length * height * channels * self.d_model
        tokens = self.positions(frames)
        return 2 * (chunks * convolved + tokens * self.d_model * (self.d_model + hidden_size))

    def padded(self, frames: int) -> int:
        """Mel frames that a chunk is padded to."""
        return min(frames, self.chunk)

    def values(self, frames: int) -> int:
        """The first convolution's output is the largest, twice: before and after its activation."""
        convolved = frames // 2 * -(-self.num_mel_bins // 2) * self.downsample_hidden_size
        return max(super().values(frames), 2 * convolved)


class AutLM(PackedLM):
    """A model with an AuT encoder."""

    def times(self, count: int, audio: Audio) -> Tensor:
        """Of `[N, 2]`; the last token of a second is as short as what is left of it."""
        import torch

        frame, chunk = HOP / SAMPLE_RATE, self.encoder.chunk
        number = torch.arange(count, dtype=torch.float64)
        each = self.encoder.positions(chunk)
        second, within = number.div(each, rounding_mode="floor"), number % each
        starts = second * chunk + within * STRIDE
        ends = torch.minimum(starts + STRIDE, (second + 1) * chunk)
        return (torch.stack([starts, ends], dim=1) * frame).clamp(max=audio.seconds).float()
