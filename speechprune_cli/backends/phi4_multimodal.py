"""Phi-4-multimodal: a conformer that hears 40 s at a time, an MLP, a Phi-4 decoder with a LoRA.

The native class of transformers, which wants the checkpoint's converted files: they are at its
revision refs/pr/70, the others need code of their own. Convolutions go over a whole recording, so
windows of 40 s are given the frames beside them; with that they are what the stock model computes
of recordings of any length, which it cuts so itself. The adapter for speech is always on, its eyes
are loaded and never used. Beyond 4,096 positions the rotary frequencies change: `_longrope.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import PositiveInt

from speechprune_cli.backends._prompts import with_options
from speechprune_cli.backends.loading import read_config
from speechprune_cli.backends.shape import BATCH_SIZE, HOP, EncoderShape, Shape
from speechprune_cli.backends.stock import StockLM
from speechprune_cli.backends.windowed import EncodedWindows, WindowedLM
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE, Audio, PromptIds

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from speechprune_cli.checkpoint import Checkpoint

WINDOW = 400  # samples of a mel frame with what it overlaps
STEPS = 500  # of the encoder in a window
EYES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}


class Phi4Shape(EncoderShape):
    """A token for every eight frames, 12.5 a second; trained on recordings of many lengths."""

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_blocks: PositiveInt
    num_attention_heads: PositiveInt
    ext_pw_out_channel: PositiveInt
    depthwise_separable_out_channel: PositiveInt
    depthwise_multiplier: PositiveInt
    kernel_size: PositiveInt
    input_size: PositiveInt
    time_reduction: PositiveInt
    nemo_conv_channels: PositiveInt
    bias_max_distance: PositiveInt

    def frames(self, samples: int) -> int:
        """Whole ones only."""
        return max(0, (samples - WINDOW) // HOP + 1)

    def tokens(self, samples: int) -> int:
        """The last one of what frames there are."""
        return -(-self.frames(samples) // self.time_reduction)

    def subsampling_flops(self, frames: int) -> int:
        """Strided convolutions over frames and bins, and what makes steps of them."""
        channels, bins, total, inputs = self.nemo_conv_channels, self.input_size, 0, 0
        for _ in range(self.time_reduction.bit_length() - 1):
            frames, bins = -(-frames // 2), -(-bins // 2)
            total += 2 * frames * bins * channels * (9 + inputs)
            inputs = channels
        return total + 2 * frames * channels * bins * self.hidden_size

    def layer_flops(self, windows: int, steps: int) -> int:
        """Of `windows` windows; causal convolutions run over what pads them too."""
        width, outer = self.hidden_size, self.ext_pw_out_channel
        linears = 6 * width * self.intermediate_size + 4 * width**2 + 3 * width * outer
        inner = width * self.depthwise_multiplier
        depthwise = inner * (self.kernel_size + self.depthwise_separable_out_channel)
        padded = steps + self.kernel_size - 1
        return windows * (2 * steps * linears + 4 * steps**2 * width + 2 * padded * depthwise)

    def flops(self, seconds: float, hidden_size: int) -> int:
        frames = self.frames(round(seconds * SAMPLE_RATE))
        steps = -(-frames // self.time_reduction)
        windows, each = (1, steps) if steps <= STEPS else (-(-steps // STEPS), STEPS)
        projector = 2 * steps * hidden_size * (self.hidden_size + hidden_size)
        layers = self.num_blocks * self.layer_flops(windows, each)
        return self.subsampling_flops(frames) + layers + projector

    def bytes(self, seconds: float, bytes_per_value: int, batch_size: int = BATCH_SIZE) -> int:
        """The first convolution's output of one window, and a layer's activations of a batch."""
        steps = min(STEPS, self.tokens(round(seconds * SAMPLE_RATE)))
        frames, bins = steps * self.time_reduction // 2, self.input_size // 2
        convolved = 2 * frames * bins * self.nemo_conv_channels
        layer = steps * (6 * self.hidden_size + 3 * self.intermediate_size)
        layer += 2 * steps**2 * self.num_attention_heads
        return (convolved + batch_size * layer) * bytes_per_value


class Window(NamedTuple):
    """What one window's steps are computed from."""

    samples: np.ndarray  # of its frames and of those beside it
    skip: int  # steps that belong to the frames before
    steps: int
    width: int  # steps that the encoder sees: beyond its own, zeros


class Phi4Multimodal(WindowedLM, StockLM):
    """A `Phi4MultimodalForCausalLM`, stock."""

    family = "phi4_multimodal"
    model_types = ("phi4_multimodal",)
    code_version = "phi4_multimodal/1"
    encoder_shape = Phi4Shape
    model_class = "Phi4MultimodalForCausalLM"
    decoder_name = "model.layers"
    unquantised = ("model.embed_tokens_extend", "lm_head")
    adapter = "speech-lora"

    def __init__(self, *told: Any) -> None:
        from speechprune_cli.backends._longrope import limit_of, turn_rows_by_their_own

        super().__init__(*told)
        self.limit = limit_of(self.model.config)
        turn_rows_by_their_own(self.decoder.rotary_emb)

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        """Without the one for pictures, which wants torchvision."""
        from transformers import AutoTokenizer

        return SimpleNamespace(
            tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
            feature_extractor=extractor(read_config(folder).audio_config.input_size),
        )

    @classmethod
    def random_extractor(cls, shape: Shape) -> Any:
        return extractor(shape.encoder.model_dump()["input_size"])

    @classmethod
    def configs(cls, shape: Shape) -> dict[str, Any]:
        """The decoder's keys are the model's own; eyes as small as they can be."""
        parts = super().configs(shape)
        text, audio = parts["text_config"], parts["audio_config"]
        del text["model_type"], text["head_dim"]
        return {**text, "audio_config": audio, "vision_config": EYES, "pad_token_id": None}

    def windows(self, audio: Audio) -> list[Window]:
        shape = cast(Phi4Shape, self.encoder)
        frames, total = shape.frames(len(audio.samples)), shape.tokens(len(audio.samples))
        each, windows = shape.time_reduction, []
        for first in range(0, total, STEPS):
            steps = min(STEPS, total - first)
            start, end = max(0, first - 1) * each, min(frames, (first + steps + 1) * each)
            samples = audio.samples[start * HOP : (end - 1) * HOP + WINDOW]
            width = steps if total <= STEPS else STEPS
            windows.append(Window(samples, min(first, 1), steps, width))
        return windows

    def encode_windows(self, windows: Sequence[Window]) -> EncodedWindows:
        """As the stock encoder goes on with what its convolutions made of a whole recording."""
        import torch
        from torch.nn.functional import gelu, pad

        embed = self.decoder.embed_tokens_extend.audio_embed
        rows = [self.steps(embed.encoder, window) for window in windows]
        hidden = torch.stack(
            [
                pad(row, (0, 0, 0, window.width - len(row)))
                for row, window in zip(rows, windows, strict=True)
            ]
        )
        bias = embed.encoder.relative_attention_bias_layer(hidden)
        seen = torch.ones(1, 1, *bias.shape[-2:], dtype=torch.bool, device=self.device)
        for layer in embed.encoder.encoders:
            hidden = layer(hidden, seen + bias)
        heard = torch.cat(
            [row[: window.steps] for row, window in zip(hidden, windows, strict=True)]
        )
        projected = embed.down_proj_for_speech(gelu(embed.up_proj_for_speech(heard)))
        return EncodedWindows(projected, None)

    def steps(self, encoder: Any, window: Window) -> Tensor:
        """What the convolutions make of a window, `[steps, D]`."""
        features = self.extractor(window.samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        frames = features["audio_input_features"].to(self.device, self.dtype)
        convolved, _ = encoder.embed(encoder.encoder_embedding(frames), None)
        return convolved[0, window.skip : window.skip + window.steps]

    def query_and_key(self) -> tuple[Tensor, Tensor]:
        decoder = self.shape.decoder
        query = decoder.num_attention_heads * decoder.head_dim
        key = decoder.num_key_value_heads * decoder.head_dim
        parts = self.attention_weight("qkv_proj").split([query, key, key])
        return parts[0], parts[1]

    def new_cache(self) -> Any:
        from speechprune_cli.backends._longrope import LongRopeCache

        return LongRopeCache(config=self.decoder.config)

    def run_decoder(
        self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: Any
    ) -> Tensor:
        count = embeds.shape[1]
        if self.limit is not None:
            embeds, positions = cache.beyond(embeds, positions, self.limit) or (embeds, positions)
        return super().run_decoder(embeds, positions, mask, cache)[:, -count:]

    @classmethod
    def check_template(cls, checkpoint: Checkpoint, processor: Any) -> None:
        """Prompts are written as the model's page has them."""

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        """As the model's page has it: the audio, then the question and the options."""
        asked = with_options(question, choices)
        before, after = "<|user|>", f"{asked}<|end|><|assistant|>"
        audio = self.model.config.audio_config.audio_token_id
        placeholder = self.tokenizer.convert_ids_to_tokens(audio)
        first, last = (
            self.tokenizer(part, add_special_tokens=False).input_ids for part in (before, after)
        )
        if audio in last:
            raise UsageError(f"the question must not contain {placeholder}")
        return PromptIds(first, last, before + placeholder + after)


def extractor(bins: int) -> Any:
    """Log-mel frames of 10 ms, each by itself."""
    from transformers import Phi4MultimodalFeatureExtractor

    return Phi4MultimodalFeatureExtractor(feature_size=bins)
