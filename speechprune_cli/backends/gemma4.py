"""Gemma 4: a conformer that hears at most 30 s, a decoder that looks its words up in every layer.

The stock processor keeps the first 30 s of a recording and drops the rest in silence. Here a
recording becomes consecutive 30 s windows whose tokens are joined in order, which is what the stock
model computes when it is given as many between one pair of audio markers. Its eyes are loaded and
never used. Models without ears, as those of 26B and 31B, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt

from speechprune_cli.backends._prompts import around, with_options
from speechprune_cli.backends.base import UNSERVED
from speechprune_cli.backends.shape import BATCH_SIZE, HOP, EncoderShape, Shape, read_decoder
from speechprune_cli.backends.stock import StockLM, stock
from speechprune_cli.backends.windowed import EncodedWindows, WindowedLM
from speechprune_cli.config import Decoder, LayerKind
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE, Audio, PromptIds

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.backends._lookup import Lookup

WINDOW, FRAME, BINS = 30 * SAMPLE_RATE, 320, 128
MORE = (
    "layer_types",
    "sliding_window",
    "hidden_size_per_layer_input",
    "vocab_size_per_layer_input",
    "num_kv_shared_layers",
    "use_double_wide_mlp",
    "attention_k_eq_v",
)
"""Keys of the decoder that only a model with random weights needs."""


class Gemma4Shape(EncoderShape):
    """A token for every four frames, 25 a second; trained on 30 s."""

    own_input: ClassVar[bool] = True
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    subsampling_conv_channels: list[int]
    conv_kernel_size: PositiveInt
    attention_chunk_size: PositiveInt
    attention_context_left: PositiveInt
    attention_context_right: int
    output_proj_dims: PositiveInt

    def tokens(self, samples: int) -> int:
        """Whole windows, and those of what frames the last one has in full."""
        whole, rest = divmod(samples, WINDOW)
        return whole * 750 + -(-(max(0, rest - 1) // HOP) // 4)

    def flops(self, seconds: float, hidden_size: int) -> int:
        """Each window by itself."""
        whole, rest = divmod(round(seconds * SAMPLE_RATE), WINDOW)
        total = whole * self.window_flops(WINDOW, hidden_size)
        return total + (self.window_flops(rest, hidden_size) if rest > HOP else 0)

    def window_flops(self, samples: int, hidden_size: int) -> int:
        """Of the frames that its samples make once they are a multiple of 128."""
        padded = -(-samples // 128) * 128
        first = -(-((padded + FRAME // 2 - FRAME - 1) // HOP + 1) // 2)
        steps, width = -(-first // 2), self.hidden_size
        one, two = self.subsampling_conv_channels
        total = 2 * first * BINS // 2 * 9 * one + 2 * steps * BINS // 4 * 9 * one * two
        total += (
            2 * steps * (one // 4 * two * width + self.output_proj_dims * (width + hidden_size))
        )
        context = self.attention_chunk_size + self.attention_context_left - 1
        context += self.attention_context_right
        places = context // 2 + 1
        padded = -(-steps // self.attention_chunk_size) * self.attention_chunk_size
        layer = 2 * steps * width * (23 * width + self.conv_kernel_size) + 2 * places * width**2
        layer += 2 * padded * width * (2 * context + places)
        return total + self.num_hidden_layers * layer

    def bytes(self, seconds: float, bytes_per_value: int, batch_size: int = BATCH_SIZE) -> int:
        """Activations of the windows that are encoded side by side, about, most in float32."""
        windows = min(batch_size, -(-round(seconds * SAMPLE_RATE) // WINDOW))
        one, two = self.subsampling_conv_channels
        convolved = 2 * 1500 * BINS // 2 * one + 750 * BINS // 4 * two
        return windows * (convolved + 750 * 16 * self.hidden_size) * max(4, bytes_per_value)


class Gemma4(WindowedLM, StockLM):
    """A `Gemma4ForConditionalGeneration`, stock."""

    family = "gemma4"
    model_types = ("gemma4",)
    code_version = "gemma4/1"
    served = UNSERVED  # its layers are told the words themselves, which embeddings alone are not
    encoder_shape: ClassVar[type[EncoderShape]] = Gemma4Shape
    model_class = "Gemma4ForConditionalGeneration"
    extractor_class: ClassVar[str] = "Gemma4AudioFeatureExtractor"
    attention = None  # its ears have no other than their own
    unquantised: ClassVar[tuple[str, ...]] = (
        *("model.audio_tower", "model.embed_audio", "model.vision_tower", "model.embed_vision"),
        "lm_head",
    )
    around: ClassVar[str] = ""  # what the stock processor writes around audio and its markers
    words: Lookup | None = None

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        """Without the ones for pictures and videos, which want torchvision."""
        from transformers import AutoTokenizer

        extractor = stock(cls.extractor_class)
        return SimpleNamespace(
            tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
            feature_extractor=extractor.from_pretrained(folder, local_files_only=True),
        )

    @classmethod
    def random_extractor(cls, shape: Shape) -> Any:
        return stock(cls.extractor_class)()

    @classmethod
    def read_decoder(cls, source: str, config: Any) -> Decoder:
        text = config.get_text_config(decoder=True)
        if config.audio_config is None:
            raise ModelError(f"{source} hears nothing: of Gemma 4, E2B and E4B do")
        if text.enable_moe_block:
            raise ModelError(f"{source}: a mixture of experts cannot be counted yet")
        last = text.per_layer_config[text.num_hidden_layers - 1]  # which always sees all
        more = {name: getattr(text, name) for name in MORE} | {"global_head_dim": last.head_dim}
        return read_decoder(source, text.per_layer_config[0]).model_copy(
            update={
                "kinds": layer_kinds(text),
                "weights_beside": text.hidden_size * text.num_hidden_layers * per_layer(text),
                "more": more,
            }
        )

    @classmethod
    def configs(cls, shape: Shape) -> dict[str, Any]:
        """Blind."""
        return {**super().configs(shape), "vision_config": None}

    def windows(self, audio: Audio) -> list[Any]:
        """Samples of 30 s each; a last 10 ms alone make no frame."""
        count = len(audio.samples)
        return [audio.samples[at : at + WINDOW] for at in range(0, count - HOP, WINDOW)]

    def encode_windows(self, windows: Sequence[Any]) -> EncodedWindows:
        """Valid tokens of a batch of windows."""
        import torch

        features = self.extractor(list(windows), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        mask = features["input_features_mask"].to(self.device)
        found = self.model.model.get_audio_features(
            features["input_features"].to(self.device), mask
        )
        return EncodedWindows(found.pooler_output[found.attention_mask.to(torch.bool)], None)

    def run_decoder(
        self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: Any
    ) -> Tensor:
        """With what each layer knows of the words; of audio it knows what it does of padding."""
        told = {}
        if per_layer(self.decoder.config):
            told["per_layer_inputs"] = self.decoder.get_per_layer_inputs(self.word_ids(embeds))
        return self.decoder(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=mask,
            cache=cache,
            use_cache=True,
            **told,
        ).last_hidden_state

    def word_ids(self, embeds: Tensor) -> Tensor:
        """Ids `[rows, n]` of embeddings that are a word's, else the padding's."""
        from speechprune_cli.backends._lookup import Lookup

        if self.words is None:
            self.words = Lookup(self.embed_rows, len(self.word_embeddings), self.device)
        return self.words.find(embeds, self.decoder.config.pad_token_id)

    def head(self, hidden: Tensor) -> Tensor:
        logits, cap = super().head(hidden), self.decoder.config.final_logit_softcapping
        return logits if cap is None else (logits / cap).tanh() * cap

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        """The model's own chat template, the audio between its markers."""
        asked = with_options(question, choices)
        content = [{"type": "audio"}, {"type": "text", "text": asked}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        audio = self.model.config.audio_token_id
        begin, placeholder, end = self.tokenizer.convert_ids_to_tokens(
            [self.model.config.boa_token_id, audio, self.end_marker]
        )
        framed = f"{self.around}{begin}{placeholder}{end}{self.around}"
        ids = self.tokenizer(text.replace(placeholder, framed), add_special_tokens=False).input_ids
        return around(audio, ids, text, self.tokenizer)

    @property
    def end_marker(self) -> int:
        """Its id."""
        return self.model.config.eoa_token_index


def per_layer(text: Any) -> int:
    """Width of what each layer knows of a word; 0 in models without."""
    return text.hidden_size_per_layer_input or 0


def layer_kinds(text: Any) -> tuple[LayerKind, ...]:
    """Alike: those with a window or without, whose keys are theirs or another layer's."""
    found: dict[LayerKind, int] = {}
    for number, name in enumerate(text.layer_types):
        config, shared = text.per_layer_config[number], text.kv_sharing_modes[number] == "reuse"
        query = text.num_attention_heads * config.head_dim
        key = 0 if shared else config.num_key_value_heads * config.head_dim
        values = 0 if text.attention_k_eq_v and name == "full_attention" else key
        wide = 2 if text.use_double_wide_mlp and shared else 1
        weights = 2 * query + key + values + 3 * wide * text.intermediate_size + 2 * per_layer(text)
        kind = LayerKind(
            layers=1,
            weights=weights * text.hidden_size,
            query_width=query,
            key_width=key,
            window=text.sliding_window if name == "sliding_attention" else None,
        )
        found[kind] = found.get(kind, 0) + 1
    return tuple(kind.model_copy(update={"layers": count}) for kind, count in found.items())
