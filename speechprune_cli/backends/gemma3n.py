"""Gemma 3n: a conformer that hears at most 30 s, 188 tokens each, and a decoder like Gemma 4's.

Windows of 30 s are joined as in Gemma 4. Each becomes 188 tokens, whatever its length, as the stock
model fills them up; those behind the end of the recording have no length. A last 32 ms alone make
no frame and no window. Its eyes are loaded and never used: transformers builds them by timm, which
wants torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import PositiveInt

from speechprune_cli.backends.gemma4 import WINDOW, Gemma4, per_layer
from speechprune_cli.backends.shape import BATCH_SIZE, HOP, EncoderShape, Shape, read_decoder
from speechprune_cli.backends.windowed import EncodedWindows
from speechprune_cli.config import Decoder, LayerKind
from speechprune_cli.flow import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

LONG_FRAME = 512  # samples
EACH = 188  # tokens of a window, 160 ms each
MORE = (
    "layer_types",
    "sliding_window",
    "intermediate_size",
    "hidden_size_per_layer_input",
    "vocab_size_per_layer_input",
    "num_kv_shared_layers",
    "activation_sparsity_pattern",
    "altup_num_inputs",
    "laurel_rank",
)


class Gemma3nShape(EncoderShape):
    """188 tokens a window; trained on 30 s."""

    own_input: ClassVar[bool] = True
    hidden_size: PositiveInt
    vocab_size: PositiveInt
    vocab_offset: PositiveInt
    input_feat_size: PositiveInt
    sscp_conv_channel_size: list[int]
    conf_num_hidden_layers: PositiveInt
    conf_num_attention_heads: PositiveInt
    conf_conv_kernel_size: PositiveInt
    conf_reduction_factor: PositiveInt
    conf_attention_chunk_size: PositiveInt
    conf_attention_context_left: PositiveInt
    conf_attention_context_right: int

    def windows(self, samples: int) -> int:
        """The last one only where it makes a frame."""
        return max(0, -(-(samples - LONG_FRAME) // WINDOW))

    def tokens(self, samples: int) -> int:
        return self.windows(samples) * EACH

    def flops(self, seconds: float, hidden_size: int) -> int:
        """Of one window as long as it is, of more all as long as the first."""
        samples = round(seconds * SAMPLE_RATE)
        windows = self.windows(samples)
        return windows * self.window_flops(WINDOW if windows > 1 else samples, hidden_size)

    def window_flops(self, samples: int, hidden_size: int) -> int:
        """Of the frames that its samples make once they are a multiple of 128."""
        padded = -(-samples // 128) * 128
        first = -(-((padded - LONG_FRAME - 1) // HOP + 1) // 2)
        steps, width, bins = -(-first // 2), self.hidden_size, self.input_feat_size
        one, two = self.sscp_conv_channel_size
        total = 2 * first * bins // 2 * 9 * one + 2 * steps * bins // 4 * 9 * one * two
        total += 2 * steps * bins // 4 * two * width
        span = self.conf_attention_context_left + self.conf_attention_context_right
        context = self.conf_attention_chunk_size + span - 1
        padded = -(-steps // self.conf_attention_chunk_size) * self.conf_attention_chunk_size
        layer = 2 * steps * width * (23 * width + self.conf_conv_kernel_size) + 2 * span * width**2
        layer += 2 * padded * width * (2 * context + span)
        made = -(-steps // self.conf_reduction_factor) + 1  # and what fills up
        return total + self.conf_num_hidden_layers * layer + 2 * made * width * hidden_size

    def bytes(self, seconds: float, bytes_per_value: int, batch_size: int = BATCH_SIZE) -> int:
        """Activations of the windows that are encoded side by side, about, some in float32."""
        windows = min(batch_size, self.windows(round(seconds * SAMPLE_RATE)))
        one, two = self.sscp_conv_channel_size
        convolved = self.input_feat_size * (3 * 1500 // 2 * one + 750 // 4 * two)
        return windows * (convolved + 750 * 16 * self.hidden_size) * max(4, bytes_per_value)


class Window(NamedTuple):
    """Samples, and whether they are filled up to 30 s: where there are other windows."""

    samples: np.ndarray
    fill: bool


SMALL = ("correction_coefs", "prediction_coefs", "modality_router")
"""Of a handful of rows or columns, which no kernel packs."""


class Gemma3n(Gemma4):
    """A `Gemma3nForConditionalGeneration`, stock."""

    family = "gemma3n"
    model_types = ("gemma3n",)
    code_version = "gemma3n/1"
    encoder_shape = Gemma3nShape
    model_class = "Gemma3nForConditionalGeneration"
    extractor_class = "Gemma3nAudioFeatureExtractor"
    around = "\n\n"
    unquantised = (*Gemma4.unquantised, *SMALL)

    @classmethod
    def read_decoder(cls, source: str, config: Any) -> Decoder:
        text = config.get_text_config(decoder=True)
        told = SimpleNamespace(**text.to_dict())
        told.intermediate_size = max(text.intermediate_size)
        width, inputs = text.hidden_size, text.altup_num_inputs
        beside = width * text.num_hidden_layers * per_layer(text) + 2 * (inputs - 1) * width**2
        return read_decoder(source, told).model_copy(
            update={
                "kinds": layer_kinds(text),
                "weights_beside": beside,
                "more": {name: getattr(text, name) for name in MORE},
            }
        )

    @classmethod
    def configs(cls, shape: Shape) -> dict[str, Any]:
        """Its eyes are those of every Gemma 3n."""
        return {**super().configs(shape), "vision_config": {"label_names": ["one", "two"]}}

    def windows(self, audio: Audio) -> list[Any]:
        """Samples of 30 s each."""
        count = len(audio.samples)
        starts = range(0, count - LONG_FRAME, WINDOW)
        return [Window(audio.samples[at : at + WINDOW], len(starts) > 1) for at in starts]

    def times(self, count: int, audio: Audio) -> Tensor:
        """Start and end `[N, 2]`, none beyond its window or the recording."""
        import torch

        number = torch.arange(count, dtype=torch.float64)
        window, step = number // EACH * 30, number % EACH * 0.16
        ends = window + (step + 0.16).clamp(max=30)
        return torch.stack([window + step, ends], dim=1).clamp(max=audio.seconds).float()

    def encode_windows(self, windows: Sequence[Any]) -> EncodedWindows:
        """188 tokens of each: what was heard, then what stands for nothing."""
        import torch

        features = self.extractor(
            [window.samples for window in windows],
            sampling_rate=SAMPLE_RATE,
            padding="max_length" if windows[0].fill else "longest",
            return_tensors="pt",
        )
        model, unheard = self.model.model, ~features["input_features_mask"].to(self.device)
        found = model.get_audio_features(
            features["input_features"].to(self.device, self.dtype), unheard
        )
        last = torch.tensor([[model.vocab_size - 1]], device=self.device)
        nothing = model.embed_audio(input_ids=last)
        heard = torch.where(found.audio_mel_mask[..., None], nothing, found.pooler_output)
        filled = nothing.expand(len(windows), EACH - heard.shape[1], -1)
        return EncodedWindows(torch.cat([heard, filled], dim=1).flatten(0, 1), None)

    def embed_rows(self, ids: Tensor) -> Tensor:
        """Markers of pictures and of audio have tables of their own."""
        import torch

        rows, model = super().embed_rows(ids), self.model.model
        for part in (model.embed_vision, model.embed_audio):
            places = ids - part.vocab_offset
            own = (places >= 0) & (places < part.vocab_size)
            if own.any():
                words = part.vocab_offset + torch.arange(part.vocab_size, device=ids.device)
                table = part(input_ids=words)
                rows[own] = table[places[own]].to(rows)
        return rows

    @property
    def end_marker(self) -> int:
        return self.model.config.eoa_token_id


def layer_kinds(text: Any) -> tuple[LayerKind, ...]:
    """Alike: those with a window or without, whose keys are theirs or another layer's."""
    found: dict[LayerKind, int] = {}
    width, inputs = text.hidden_size, text.altup_num_inputs
    for number, name in enumerate(text.layer_types):
        shared = text.kv_sharing_modes[number] == "reuse"
        query = text.num_attention_heads * text.head_dim
        key = 0 if shared else text.num_key_value_heads * text.head_dim
        columns = 2 * query + 2 * key + 3 * text.intermediate_size[number]
        columns += 2 * text.laurel_rank + 2 * per_layer(text) + inputs
        kind = LayerKind(
            layers=1,
            weights=width * columns + inputs**2 + inputs**3,
            query_width=query,
            key_width=key,
            window=text.sliding_window if name == "sliding_attention" else None,
            products=width * (inputs + inputs**2),
        )
        found[kind] = found.get(kind, 0) + 1
    return tuple(kind.model_copy(update={"layers": count}) for kind, count in found.items())
