"""Qwen2-Audio, and every model in its format: a Whisper encoder, a projector, a decoder.

The stock processor keeps the first 30 s of a recording and drops the rest in silence. Here a
recording becomes consecutive 30 s windows whose valid tokens are joined in order, which is what
the stock model computes when it is given as many windows between one pair of audio markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from string import ascii_uppercase
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor
from transformers.masking_utils import create_bidirectional_mask

from speechprune_cli.backends._listening import attention_received, loudness
from speechprune_cli.backends._weights import load_weights, quiet_transformers
from speechprune_cli.backends.base import ProgressCallback, SpeechLM
from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.config import Preset
from speechprune_cli.device import Placement, Stopwatch, memory_guard
from speechprune_cli.errors import AudioError, ModelError, one_line
from speechprune_cli.flow import SAMPLE_RATE, Audio, AudioTokens
from speechprune_cli import costs


class Backend(SpeechLM):
    """A `Qwen2AudioForConditionalGeneration`, stock."""

    code_version: ClassVar[str] = "qwen2_audio/2"
    model_class: ClassVar[Any] = Qwen2AudioForConditionalGeneration
    quantise_skip: ClassVar[list[str]] = [
        "model.audio_tower",
        "model.multi_modal_projector",
        "lm_head",
    ]

    def __init__(
        self,
        preset: Preset,
        checkpoint: Checkpoint,
        placement: Placement,
        model: Any,
        processor: Any,
    ) -> None:
        super().__init__(preset, checkpoint, placement, model, processor.tokenizer)
        self.processor = processor
        self.audio_config = model.config.audio_config
        self.audio_token_id = model.config.audio_token_id
        self.window_seconds = float(processor.feature_extractor.chunk_length)
        self.window_tokens = self.audio_config.max_source_positions // 2

    @classmethod
    def load(cls, preset: Preset, checkpoint: Checkpoint, placement: Placement) -> Backend:
        """Load the stock model and processor. Raises `ModelError`, `OutOfMemoryError`."""
        quiet_transformers()
        try:
            processor = Qwen2AudioProcessor.from_pretrained(
                checkpoint.folder, local_files_only=True
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{checkpoint.folder}: no usable tokenizer and feature extractor: {one_line(error)}"
            ) from error
        model = load_weights(cls, checkpoint, placement)
        return cls(preset, checkpoint, placement, model, processor)

    @torch.no_grad()
    def encode(
        self, audio: Audio, batch_size: int = 4, on_progress: ProgressCallback | None = None
    ) -> AudioTokens:
        """All tokens of a recording, 25 per second.

        A window of F = ceil(samples / 160) mel frames gives (F + 1) // 4 tokens. Memory is bounded
        by the batch and the tokens themselves. Raises `AudioError` where the recording is too
        short for a single token, `OutOfMemoryError`.
        """
        clock = Stopwatch(self.device)
        size = round(self.window_seconds * SAMPLE_RATE)
        windows = [audio.samples[i : i + size] for i in range(0, len(audio.samples), size)]
        counts = [self._token_count(window) for window in windows]
        if sum(counts) == 0:
            raise AudioError(f"{audio.source}: {audio.seconds:.3f} s is too short to encode")
        shape, done = (sum(counts), self.hidden_size), 0
        with self._guard_encoding(sum(counts), batch_size):
            embeds = torch.empty(shape, dtype=self.dtype, device=self.device)
            attention = torch.empty(shape[0], device=self.device)
            for first in range(0, len(windows), batch_size):
                tokens, received = self._encode_windows(windows[first : first + batch_size])
                embeds[done : done + len(tokens)] = tokens
                attention[done : done + len(tokens)] = received
                done += len(tokens)
                if on_progress is not None:
                    on_progress(min(first + batch_size, len(windows)), len(windows))
        times = self._times(counts, audio.seconds)
        return AudioTokens(
            embeds=embeds,
            times=times,
            per_second=self.tokens_per_second,
            seconds=sum(map(len, windows)) / SAMPLE_RATE,
            loudness=loudness(audio.samples, times, SAMPLE_RATE),
            attention=attention.cpu(),
            encode_seconds=clock.lap(),
        )

    def render(self, question: str, choices: Sequence[str] = ()) -> str:
        """The model's own chat template around the audio, the question and the options."""
        options = zip(ascii_uppercase, choices, strict=False)
        text = "\n".join([question, *(f"{letter}. {choice}" for letter, choice in options)])
        content = [{"type": "audio", "audio_url": "audio"}, {"type": "text", "text": text}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )

    def _encode_windows(self, windows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Valid tokens `[n, D]` of a batch of windows, computed as the stock forward does.

        Beside them the attention that each received in the encoder's last layer, `[n]`.
        """
        features = self.processor.feature_extractor(
            windows,
            sampling_rate=SAMPLE_RATE,
            return_attention_mask=True,
            padding="max_length",
            return_tensors="pt",
        )
        tower = self.model.model.audio_tower
        frames = features["attention_mask"].sum(-1).to(self.device)
        positions, counts = tower._get_feat_extract_output_lengths(frames)
        steps = torch.arange(self.audio_config.max_source_positions, device=self.device)
        mask = create_bidirectional_mask(
            config=self.audio_config,
            inputs_embeds=torch.zeros(
                len(windows), len(steps), 1, dtype=self.dtype, device=self.device
            ),
            attention_mask=(steps < positions[:, None]).long(),
        )
        inputs = features["input_features"].to(self.device)
        with attention_received(tower.layers[-1].self_attn) as received:
            hidden = tower(inputs, attention_mask=mask).last_hidden_state
        valid = steps[: self.window_tokens] < counts[:, None]
        pairs = received[0].unflatten(-1, (self.window_tokens, 2)).mean(-1)
        return self.model.model.multi_modal_projector(hidden)[valid], pairs[valid]

    def _token_count(self, window: np.ndarray) -> int:
        hop = self.processor.feature_extractor.hop_length
        frames = -(-len(window) // hop)
        return (frames + 1) // 4

    def _times(self, counts: list[int], seconds: float) -> Tensor:
        """Start and end `[N, 2]` of every token, the last clipped to the recording."""
        starts = torch.cat(
            [
                window * self.window_seconds
                + torch.arange(count, dtype=torch.float64) / self.tokens_per_second
                for window, count in enumerate(counts)
            ]
        )
        ends = starts + 1 / self.tokens_per_second
        return torch.stack([starts, ends], dim=1).clamp(max=seconds).float()

    def _guard_encoding(self, tokens: int, batch_size: int) -> AbstractContextManager[None]:
        size = self.dtype.itemsize
        needed = costs.encoding_bytes(self.audio_config, batch_size, size)
        needed += tokens * self.hidden_size * size
        hint = "--device cpu" if self.device.type == "cuda" else "--dtype bfloat16"
        task = f"encoding {tokens:,} tokens, {batch_size} windows at a time,"
        return memory_guard(task, needed, self.device, hint)
