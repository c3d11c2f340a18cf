"""Qwen2-Audio, and every model in its format: a Whisper encoder, a projector, a decoder.

The stock processor keeps the first 30 s of a recording and drops the rest in silence. Here a
recording becomes consecutive 30 s windows whose valid tokens are joined in order, which is what
the stock model computes when it is given as many windows between one pair of audio markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from speechprune_cli.backends.base import AUDIO_EMBEDS
from speechprune_cli.backends.shape import HOP
from speechprune_cli.backends.stock import StockLM
from speechprune_cli.backends.windowed import EncodedWindows, WhisperShape, WindowedLM
from speechprune_cli.flow import ENCODER_ATTENTION

if TYPE_CHECKING:
    import numpy as np


class Qwen2AudioShape(WhisperShape):
    """A token for every four mel frames; trained on 30 s."""

    own_input: ClassVar[bool] = True

    def tokens(self, samples: int) -> int:
        """Whole windows, and (F + 1) // 4 of the F mel frames of the last one."""
        whole, rest = divmod(samples, self.window_samples)
        return whole * (self.max_source_positions // 2) + (-(-rest // HOP) + 1) // 4

    def projector_flops(self, hidden_size: int) -> int:
        return 2 * (self.max_source_positions // 2) * self.d_model * hidden_size


class Qwen2Audio(WindowedLM, StockLM):
    """A `Qwen2AudioForConditionalGeneration`, stock."""

    family = "qwen2_audio"
    model_types = ("qwen2_audio",)
    code_version = "qwen2_audio/2"
    encoder_shape = Qwen2AudioShape
    provides = frozenset({ENCODER_ATTENTION})
    served = AUDIO_EMBEDS
    model_class = "Qwen2AudioForConditionalGeneration"
    processor_class = "Qwen2AudioProcessor"
    audio_content: ClassVar[dict[str, str]] = {"type": "audio", "audio_url": "audio"}

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        """The chat template of the class in transformers is Qwen's: other decoders bring theirs."""
        from transformers import ProcessorMixin

        processor = super().read_processor(folder)
        if cls.read_config(folder).text_config.model_type != "qwen2":
            told, _ = ProcessorMixin.get_processor_dict(folder, local_files_only=True)
            processor.chat_template = told.get("chat_template")
        return processor

    def encode_windows(self, windows: Sequence[np.ndarray]) -> EncodedWindows:
        """Valid tokens of a batch of windows, and the attention they receive in the last layer."""
        import torch
        from transformers.masking_utils import create_bidirectional_mask

        from speechprune_cli.backends.listening import attention_received

        model, config = self.model.model, self.model.config.audio_config
        inputs, filled = self.mel_frames(windows)
        positions, counts = model.audio_tower._get_feat_extract_output_lengths(filled.sum(-1))
        steps = torch.arange(config.max_source_positions, device=self.device)
        like = torch.zeros((len(windows), len(steps), 1), dtype=self.dtype, device=self.device)
        heard = (steps < positions[:, None]).long()
        mask = create_bidirectional_mask(config=config, inputs_embeds=like, attention_mask=heard)
        with attention_received(model.audio_tower.layers[-1].self_attn) as received:
            hidden = model.audio_tower(inputs, attention_mask=mask).last_hidden_state
        valid = steps[: len(steps) // 2] < counts[:, None]
        pairs = received[0].unflatten(-1, (-1, 2)).mean(-1)
        return EncodedWindows(model.multi_modal_projector(hidden)[valid], pairs[valid])
