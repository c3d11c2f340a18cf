"""Audio Flamingo 3: a Whisper encoder, averaged pairs of positions, a projector, a Qwen2 decoder.

The stock processor cuts a recording at 10 minutes, which the model was trained on. Here longer ones
go on in 30 s windows, as each is encoded by itself; that they are longer is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from speechprune_cli.backends.base import AUDIO_EMBEDS
from speechprune_cli.backends.qwen2_audio import Qwen2AudioShape
from speechprune_cli.backends.stock import StockLM
from speechprune_cli.backends.windowed import EncodedWindows, WindowedLM
from speechprune_cli.flow import ENCODER_ATTENTION

if TYPE_CHECKING:
    from torch import Tensor


class AudioFlamingo3Shape(Qwen2AudioShape):
    """25 tokens a second, as Qwen2-Audio's; trained on recordings of many lengths."""

    own_input: ClassVar[bool] = False

    def projector_flops(self, hidden_size: int) -> int:
        pairs = self.max_source_positions // 2
        return 2 * pairs * hidden_size * (self.d_model + hidden_size)


class AudioFlamingo3(WindowedLM, StockLM):
    """An `AudioFlamingo3ForConditionalGeneration`, stock."""

    family = "audio_flamingo3"
    model_types = ("audioflamingo3",)
    code_version = "audio_flamingo3/1"
    encoder_shape = AudioFlamingo3Shape
    provides = frozenset({ENCODER_ATTENTION})
    served = AUDIO_EMBEDS
    model_class = "AudioFlamingo3ForConditionalGeneration"
    processor_class = "AudioFlamingo3Processor"

    def encode_windows(self, windows: Sequence[Any]) -> EncodedWindows:
        """Valid tokens of a batch of windows, and the attention they receive in the last layer."""
        hidden, valid, attention = self.listen(windows)
        return EncodedWindows(self.model.model.multi_modal_projector(hidden)[valid], attention)

    def listen(self, windows: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """The encoder's `[B, 750, d_model]` of samples, which are valid, and those' attention."""
        import torch

        from speechprune_cli.backends.listening import attention_received

        tower = self.model.model.audio_tower
        inputs, filled = self.mel_frames(windows)
        with attention_received(tower.layers[-1].self_attn) as received:
            hidden = tower(inputs, input_features_mask=filled).last_hidden_state
        _, counts = tower._get_feat_extract_output_lengths(filled.sum(-1))
        valid = torch.arange(hidden.shape[1], device=self.device) < counts[:, None]
        return hidden, valid, received[0].unflatten(-1, (-1, 2)).mean(-1)[valid]
