"""Voxtral: a Whisper encoder over whole 30 s windows, four positions to a token, a Llama decoder.

Every recording is padded with silence to a multiple of 30 s, and the silence becomes tokens too;
those behind the end of the recording have no length. Its makers made it for 40 minutes, those of a
context of 32,768 tokens; longer ones are heard window by window all the same. Prompts are made by
mistral-common (`pip install 'speechprune[voxtral]'`), which gives token ids, not text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence, Set
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from speechprune_cli.backends._prompts import with_options
from speechprune_cli.backends.stock import StockLM
from speechprune_cli.backends.windowed import (
    EncodedWindows,
    WhisperShape,
    WindowedLM,
)
from speechprune_cli.extras import need
from speechprune_cli.flow import ENCODER_ATTENTION, SAMPLE_RATE, Audio, PromptIds

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.checkpoint import Checkpoint
    from speechprune_cli.config import Preset
    from speechprune_cli.device import Placement


class VoxtralShape(WhisperShape):
    """375 tokens a window, 12.5 a second; trained on recordings of many lengths."""

    mel_of_all: ClassVar[bool] = True

    @property
    def window_tokens(self) -> int:
        """Positions are joined until they are as wide as the feed-forward layer."""
        return self.max_source_positions * self.d_model // self.encoder_ffn_dim

    def tokens(self, samples: int) -> int:
        """Whole windows only."""
        return self.windows(samples / SAMPLE_RATE) * self.window_tokens

    def projector_flops(self, hidden_size: int) -> int:
        return 2 * self.window_tokens * hidden_size * (self.encoder_ffn_dim + hidden_size)


class Voxtral(WindowedLM, StockLM):
    """A `VoxtralForConditionalGeneration`, stock."""

    family = "voxtral"
    model_types = ("voxtral",)
    code_version = "voxtral/1"
    encoder_shape = VoxtralShape
    provides = frozenset({ENCODER_ATTENTION})
    model_class = "VoxtralForConditionalGeneration"
    processor_class = "VoxtralProcessor"

    @classmethod
    def load(cls, preset: Preset, checkpoint: Checkpoint, placement: Placement) -> Self:
        need("mistral_common", "Voxtral", "voxtral")
        return super().load(preset, checkpoint, placement)

    def windows(self, audio: Audio) -> list[Tensor]:
        """Mel frames `[bins, 3000]` of 30 s each."""
        samples = self.encoder.window_samples
        features = self.extractor(
            audio.samples,
            sampling_rate=SAMPLE_RATE,
            padding=True,
            truncation=False,
            pad_to_multiple_of=samples,
            return_tensors="pt",
        )["input_features"]
        frames = samples // self.extractor.hop_length
        return list(features[0].split(frames, dim=-1))

    def encode_windows(self, windows: Sequence[Tensor]) -> EncodedWindows:
        """All tokens of a batch of windows, and the attention they receive in the last layer."""
        import torch

        from speechprune_cli.backends.listening import attention_received

        model, config = self.model.model, self.model.config.audio_config
        with attention_received(model.audio_tower.layers[-1].self_attn) as received:
            hidden = model.audio_tower(torch.stack(list(windows)).to(self.device)).last_hidden_state
        joined = hidden.reshape(-1, config.intermediate_size)
        positions = config.intermediate_size // config.hidden_size
        attention = received[0].unflatten(-1, (-1, positions)).mean(-1).flatten()
        return EncodedWindows(model.multi_modal_projector(joined), attention)

    @classmethod
    def check_template(cls, checkpoint: Checkpoint, processor: Any) -> None:
        """Prompts are written by mistral-common."""

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        """As mistral-common writes an instruction that begins with a recording."""
        asked = {"type": "text", "text": with_options(question, choices)}
        content = [{"type": "audio", "base64": self._silence}, asked]
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=True, return_dict=False
        )
        audio = self.model.config.audio_token_id
        first, count = ids.index(audio), ids.count(audio)
        before, after = ids[:first], ids[first + count :]
        text = "[AUDIO]".join(self.tokenizer.decode(part) for part in (before, after))
        return PromptIds(before, after, text)

    @property
    def control_ids(self) -> Set[int]:
        """None: mistral-common reads all that people write as text."""
        return frozenset()

    @cached_property
    def _silence(self) -> str:
        """What stands for the recording while the prompt is written."""
        import numpy as np
        import soundfile

        file = io.BytesIO()
        soundfile.write(file, np.zeros(SAMPLE_RATE // 10), SAMPLE_RATE, format="WAV")
        return base64.b64encode(file.getvalue()).decode()
