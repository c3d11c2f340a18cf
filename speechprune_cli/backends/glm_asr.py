"""GLM-ASR: a Whisper-like encoder with rotary positions, four of them to a token, a Llama decoder.

Made to transcribe. The stock processor cuts a recording at 655 s, where its tokens fill the
decoder's context; here longer ones go on in 30 s windows, as each is encoded by itself, and pruned
they fit. That they are longer is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, PositiveInt

from speechprune_cli.backends.base import AUDIO_EMBEDS
from speechprune_cli.backends.shape import HOP
from speechprune_cli.backends.stock import StockLM
from speechprune_cli.backends.windowed import EncodedWindows, WhisperShape, WindowedLM
from speechprune_cli.flow import ENCODER_ATTENTION


class GlmAsrShape(WhisperShape):
    """12.5 tokens a second; trained on recordings of many lengths."""

    d_model: PositiveInt = Field(alias="hidden_size")
    encoder_layers: PositiveInt = Field(alias="num_hidden_layers")
    encoder_attention_heads: PositiveInt = Field(alias="num_attention_heads")
    encoder_ffn_dim: PositiveInt = Field(alias="intermediate_size")
    max_source_positions: PositiveInt = Field(alias="max_position_embeddings")

    @property
    def joined(self) -> int:
        """Positions of a token: as many as are as wide as the feed-forward layer."""
        return self.encoder_ffn_dim // self.d_model

    def tokens(self, samples: int) -> int:
        """Whole windows, and what the mel frames of the last one fill."""
        whole, rest = divmod(samples, self.window_samples)
        positions = (-(-rest // HOP) + 1) // 2
        return (whole * self.max_source_positions + positions) // self.joined

    def projector_flops(self, hidden_size: int) -> int:
        tokens, inner = self.max_source_positions // self.joined, 2 * hidden_size
        return 2 * tokens * inner * (self.encoder_ffn_dim + hidden_size)


class GlmAsr(WindowedLM, StockLM):
    """A `GlmAsrForConditionalGeneration`, stock."""

    family = "glm_asr"
    model_types = ("glmasr",)
    code_version = "glm_asr/1"
    encoder_shape = GlmAsrShape
    provides = frozenset({ENCODER_ATTENTION})
    served = AUDIO_EMBEDS
    model_class = "GlmAsrForConditionalGeneration"
    processor_class = "GlmAsrProcessor"

    def encode_windows(self, windows: Sequence[Any]) -> EncodedWindows:
        """Valid tokens of a batch of windows, and the attention they receive in the last layer."""
        import torch

        from speechprune_cli.backends.listening import attention_received

        inputs, filled = self.mel_frames(windows)
        with attention_received(self.model.model.audio_tower.layers[-1].self_attn) as received:
            found = self.model.get_audio_features(inputs, filled).pooler_output
        config = self.model.config.audio_config
        positions = config.intermediate_size // config.hidden_size
        attention = received[0].unflatten(-1, (-1, positions)).mean(-1)
        counts = (filled.sum(-1) + 1) // 2 // positions
        steps = torch.arange(attention.shape[1], device=self.device)
        return EncodedWindows(found, attention[steps < counts[:, None]])
