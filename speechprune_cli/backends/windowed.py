"""Encoders that hear one window at a time: windows, batches, progress, memory, joining.

Whisper's encoder, which most Speech LLMs begin with, is such a one; its shape is here too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import PositiveInt

from speechprune_cli.backends.base import ProgressCallback, SpeechLM
from speechprune_cli.backends.shape import BATCH_SIZE, EncoderShape, Shape
from speechprune_cli.errors import AudioError, ModelError
from speechprune_cli.flow import SAMPLE_RATE, Audio, AudioTokens

if TYPE_CHECKING:
    from torch import Tensor


FEATURE_BYTES = 100 * (201 * (8 + 4) + 3 * 128 * 4) + 3 * 4 * SAMPLE_RATE
"""A second of recording while its mel frames are computed, all of it at once."""


class WhisperShape(EncoderShape):
    """A Whisper encoder, each key as transformers names it."""

    window_samples: ClassVar[int] = 30 * SAMPLE_RATE
    mel_of_all: ClassVar[bool] = False  # whether the loudest moment of all sets the floor of each
    d_model: PositiveInt
    encoder_layers: PositiveInt
    encoder_attention_heads: PositiveInt
    encoder_ffn_dim: PositiveInt
    num_mel_bins: PositiveInt
    max_source_positions: PositiveInt

    @abstractmethod
    def projector_flops(self, hidden_size: int) -> int:
        """What projects the tokens of one window."""

    def windows(self, seconds: float) -> int:
        """How many a recording takes, the last one partly filled."""
        return -(-round(seconds * SAMPLE_RATE) // self.window_samples)

    def flops(self, seconds: float, hidden_size: int) -> int:
        """Whole windows, as the encoder computes them."""
        window = self.window_flops(2 * self.max_source_positions)
        return self.windows(seconds) * (window + self.projector_flops(hidden_size))

    def window_flops(self, frames: int) -> int:
        """The encoder over so many mel frames."""
        width, ffn, steps = self.d_model, self.encoder_ffn_dim, (frames + 1) // 2
        convolutions = 2 * frames * 3 * self.num_mel_bins * width + 2 * steps * 3 * width**2
        linears = 2 * steps * (4 * width**2 + 2 * width * ffn)
        attention = 4 * steps**2 * width
        return convolutions + self.encoder_layers * (linears + attention)

    def bytes(self, seconds: float, bytes_per_value: int, batch_size: int = BATCH_SIZE) -> int:
        """Activations of the windows encoded side by side, and mel frames of all of it, about."""
        values = self.max_source_positions * (8 * self.d_model + 2 * self.encoder_ffn_dim)
        windows = min(self.windows(seconds), batch_size) * values * bytes_per_value
        return windows + (round(seconds * FEATURE_BYTES) if self.mel_of_all else 0)


class EncodedWindows(NamedTuple):
    """What a batch of windows became, joined in order."""

    tokens: Tensor  # [n, D]
    attention: Tensor | None  # float32 [n]: see `AudioTokens.attention`


class WindowedLM(SpeechLM):
    """Encodes a recording window by window; memory is bounded by the batch and the tokens."""

    extractor: Any  # of mel frames
    has_encoded: bool = False
    nominal_times: ClassVar[bool] = False  # whether `times` are a guess

    def windows(self, audio: Audio) -> Sequence[Any]:
        """What is encoded by itself, in order: here samples of 30 s each."""
        size = self.encoder.window_samples
        return [audio.samples[at : at + size] for at in range(0, len(audio.samples), size)]

    def mel_frames(self, windows: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Frames `[B, bins, 3000]` of samples, and a mask `[B, 3000]` of those that are filled."""
        features = self.extractor(
            windows,
            sampling_rate=SAMPLE_RATE,
            return_attention_mask=True,
            padding="max_length",
            return_tensors="pt",
        )
        mask = features["attention_mask"].to(self.device)
        return features["input_features"].to(self.device, self.dtype), mask

    @abstractmethod
    def encode_windows(self, windows: Sequence[Any]) -> EncodedWindows:
        """Tokens of some windows, computed as the stock forward does."""

    @property
    def encoder(self) -> Any:
        """Its shape, of the family's own class."""
        return self.shape.encoder

    def times(self, count: int, audio: Audio) -> Tensor:
        """Start and end `[N, 2]` of `count` tokens at one rate, none beyond the recording."""
        import torch

        starts = torch.arange(count, dtype=torch.float64) / self.encoder.per_second
        ends = starts + 1 / self.encoder.per_second
        return torch.stack([starts, ends], dim=1).clamp(max=audio.seconds).float()

    def encode(
        self,
        audio: Audio,
        batch_size: int | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> AudioTokens:
        import torch

        from speechprune_cli.backends.listening import loudness
        from speechprune_cli.device import Stopwatch

        clock, batch_size = Stopwatch(self.device), batch_size or BATCH_SIZE
        total = self.encoder.tokens(len(audio.samples))
        if total == 0:
            raise AudioError(f"{audio.source}: {audio.seconds:.3f} s is too short to encode")
        with self._guard(audio, total, batch_size), torch.no_grad():
            embeds, attention = self._joined(audio, total, batch_size, on_progress)
        times = self.times(total, audio)
        return AudioTokens(
            embeds=embeds,
            times=times,
            per_second=self.encoder.per_second,
            seconds=audio.seconds,
            loudness=loudness(audio.samples, times, SAMPLE_RATE),
            attention=attention,
            nominal_times=self.nominal_times,
            encode_seconds=clock.lap(),
        )

    def _joined(
        self, audio: Audio, total: int, batch_size: int, on_progress: ProgressCallback | None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens `[N, D]` of all windows, and the attention they received, if any."""
        import torch

        with self._first_use():
            windows = self.windows(audio)
        embeds = torch.empty((total, self.hidden_size), dtype=self.dtype, device=self.device)
        attention: list[Tensor] = []
        done = 0
        for first in range(0, len(windows), batch_size):
            with self._first_use():
                found = self.encode_windows(windows[first : first + batch_size])
            self.has_encoded = True
            embeds[done : done + len(found.tokens)] = found.tokens[: total - done]
            done += len(found.tokens)
            if found.attention is not None:
                attention.append(found.attention.float().cpu())
            if on_progress is not None:
                on_progress(min(first + batch_size, len(windows)), len(windows))
        if done != total:
            raise ModelError(f"{audio.source}: encoded into {done} tokens, {total} are expected")
        return embeds, torch.cat(attention) if attention else None

    def _first_use(self) -> AbstractContextManager[None]:
        """Until windows were encoded, what is raised tells of the extractor's settings.

        Later it is of a recording, or a mistake.
        """
        from speechprune_cli.backends import understood

        return nullcontext() if self.has_encoded else understood(self.preset)

    def _guard(self, audio: Audio, total: int, batch_size: int) -> AbstractContextManager[None]:
        from speechprune_cli.device import memory_guard

        size = self.dtype.itemsize
        needed = self.encoder.bytes(audio.seconds, size, batch_size)
        needed += total * self.hidden_size * size
        hint = "--device cpu" if self.device.type == "cuda" else "--dtype bfloat16"
        task = f"encoding {total:,} tokens, {batch_size} windows at a time,"
        return memory_guard(task, needed, self.device, hint)

    @classmethod
    def random_extractor(cls, shape: Shape) -> Any:
        """Whisper's mel frames of 10 ms."""
        from transformers import WhisperFeatureExtractor

        bins = shape.encoder.model_dump()["num_mel_bins"]
        return WhisperFeatureExtractor(feature_size=bins, return_attention_mask=True)
