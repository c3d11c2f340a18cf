"""Granite Speech: a conformer that hears 4 s at a time, a Q-Former, a Granite decoder.

A recording of any length is encoded at once, as the stock model does; memory grows with it. Three
learned queries look at 0.3 s each: that is the time of all three tokens. Checkpoints up to 3.3
bring a LoRA adapter for audio, which is on here: every prompt has a recording. The stock extractor
needs torchaudio, which PyPI has for CUDA alone, so its mel frames are computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from pydantic import PositiveInt

from speechprune_cli.backends._prompts import around, with_options
from speechprune_cli.backends.shape import BATCH_SIZE, HOP, EncoderShape, Shape
from speechprune_cli.backends.stock import StockLM
from speechprune_cli.backends.windowed import EncodedWindows, WindowedLM
from speechprune_cli.config import Frozen
from speechprune_cli.flow import SAMPLE_RATE, Audio, PromptIds

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

BINS = 257  # of a spectrum
STEPS_PER_SECOND = SAMPLE_RATE // HOP // 2  # the encoder reads two mel frames at a time
SYSTEM = (
    "Knowledge Cutoff Date: April 2024.\nToday's Date: April 9, 2025.\n"
    "You are Granite, developed by IBM. You are a helpful AI assistant"
)
"""As the model's page has it, where the chat template would write the date of the day."""


class QFormer(Frozen):
    """What makes tokens of the encoder's steps, each key as transformers names it."""

    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    encoder_hidden_size: PositiveInt
    cross_attention_frequency: PositiveInt

    def flops(self, blocks: int, queries: int, steps: int) -> int:
        """Of `blocks` blocks, each with its own `steps`; before the first look, of one for all."""
        width, total, many = self.hidden_size, 0, 1
        for layer in range(self.num_hidden_layers):
            total += many * queries * (8 * width**2 + 4 * queries * width)
            if layer % self.cross_attention_frequency == 0:
                total += many * 2 * queries * width**2
                many = blocks
                total += many * 4 * steps * self.encoder_hidden_size * width
                total += many * queries * (4 * steps * width + 2 * width**2)
            total += many * 4 * queries * width * self.intermediate_size
        return total


class GraniteSpeechShape(EncoderShape):
    """10 tokens a second; trained on recordings of many lengths."""

    input_dim: PositiveInt
    num_layers: PositiveInt
    hidden_dim: PositiveInt
    feedforward_mult: PositiveInt
    num_heads: PositiveInt
    dim_head: PositiveInt
    output_dim: PositiveInt
    context_size: PositiveInt
    conv_kernel_size: PositiveInt
    conv_expansion_factor: PositiveInt
    window_size: PositiveInt
    downsample_rate: PositiveInt
    projector_config: QFormer

    @property
    def window_tokens(self) -> int:
        """Queries of a window of the Q-Former."""
        return self.window_size // self.downsample_rate

    def steps(self, samples: int) -> int:
        """Of the encoder; none where a spectrum cannot be taken."""
        return (samples // HOP + 1) // 2 if samples >= BINS else 0

    def tokens(self, samples: int) -> int:
        """Those of whole windows of the Q-Former."""
        return -(-self.steps(samples) // self.window_size) * self.window_tokens

    def flops(self, seconds: float, hidden_size: int) -> int:
        """Attention and its inputs over whole contexts, all else over the steps there are."""
        steps = self.steps(round(seconds * SAMPLE_RATE))
        padded = -(-steps // self.context_size) * self.context_size
        width, heads = self.hidden_dim, self.num_heads * self.dim_head
        inner = width * self.conv_expansion_factor
        attention = 2 * padded * (3 * width * heads + 3 * self.context_size * heads)
        attention += 2 * steps * heads * width
        linears = 2 * steps * 4 * self.feedforward_mult * width**2
        convolutions = 2 * steps * inner * (3 * width + self.conv_kernel_size)
        ends = 2 * steps * width * (self.input_dim + 2 * self.output_dim)
        blocks = -(-steps // self.window_size)
        projector = self.projector_config.flops(blocks, self.window_tokens, self.window_size)
        projector += (
            2 * blocks * self.window_tokens * self.projector_config.hidden_size * hidden_size
        )
        return self.num_layers * (attention + linears + convolutions) + ends + projector

    def bytes(self, seconds: float, bytes_per_value: int, batch_size: int = BATCH_SIZE) -> int:
        """Activations of a layer, and the spectrum of the whole recording in float32."""
        layer = self.hidden_dim * (4 + 2 * self.feedforward_mult)
        layer += 3 * self.num_heads * self.context_size
        spectrum = 2 * 4 * (3 * BINS + 2 * self.input_dim)
        return round(seconds * STEPS_PER_SECOND * (layer * bytes_per_value + spectrum))


class GraniteSpeech(WindowedLM, StockLM):
    """A `GraniteSpeechForConditionalGeneration`, stock."""

    family = "granite_speech"
    model_types = ("granite_speech",)
    code_version = "granite_speech/1"
    encoder_shape = GraniteSpeechShape
    model_class = "GraniteSpeechForConditionalGeneration"
    unquantised = ("model.encoder", "model.projector", "lm_head")
    adapter = "."

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        """The tokenizer alone."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return SimpleNamespace(tokenizer=tokenizer, feature_extractor=None)

    @classmethod
    def random_extractor(cls, shape: Shape) -> Any:
        """None: see `log_mel`."""

    @classmethod
    def encoder_config(cls, config: Any) -> Any:
        """Those of the encoder and of the projector, side by side."""
        projector = {name: getattr(config.projector_config, name) for name in QFormer.model_fields}
        told = {"window_size": config.window_size, "downsample_rate": config.downsample_rate}
        return SimpleNamespace(
            **config.encoder_config.to_dict() | told, projector_config=QFormer(**projector)
        )

    @classmethod
    def configs(cls, shape: Shape) -> dict[str, Any]:
        encoder, text = shape.encoder.model_dump(), super().configs(shape)["text_config"]
        beside = ("window_size", "downsample_rate", "projector_config")
        told = {name: encoder.pop(name) for name in beside}
        return {**told, "encoder_config": encoder, "text_config": text}

    def times(self, count: int, audio: Audio) -> Tensor:
        """Start and end `[N, 2]` of the windows that the tokens are made of."""
        import torch

        shape = cast(GraniteSpeechShape, self.encoder)
        window = torch.arange(count, dtype=torch.float64) // shape.window_tokens
        edges = torch.stack([window, window + 1], dim=1) * (shape.window_size / STEPS_PER_SECOND)
        return edges.clamp(max=audio.seconds).float()

    def windows(self, audio: Audio) -> list[Tensor]:
        """Mel frames `[steps, 2 * bins]` of all of it."""
        bins = self.model.config.encoder_config.input_dim // 2
        return [log_mel(audio.samples, bins)]

    def encode_windows(self, windows: Sequence[Tensor]) -> EncodedWindows:
        features = windows[0].unsqueeze(0).to(self.device, self.dtype)
        return EncodedWindows(self.model.get_audio_features(features).pooler_output[0], None)

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        """The tokenizer's own chat template around the audio, the question and the options."""
        asked = with_options(question, choices)
        audio = self.model.config.audio_token_id
        placeholder = self.tokenizer.convert_ids_to_tokens(audio)
        messages = [{"role": "user", "content": placeholder + asked}]
        if "strftime_now" in str(self.tokenizer.chat_template):
            messages.insert(0, {"role": "system", "content": SYSTEM})
        text = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        ids = self.tokenizer(text).input_ids
        return around(audio, ids, text, self.tokenizer)


def log_mel(samples: np.ndarray, bins: int) -> Tensor:
    """Two log-mel frames of 10 ms side by side, float32 `[steps, 2 * bins]`.

    What `GraniteSpeechFeatureExtractor` computes with torchaudio's `MelSpectrogram`: 25 ms windows
    in spectra of 512, HTK's mel scale without normalisation, 80 dB below the loudest at most.
    """
    import torch
    from transformers.audio_utils import mel_filter_bank

    sound, window = torch.from_numpy(samples), torch.hann_window(400)
    spectrum = torch.stft(sound, 512, HOP, 400, window, return_complex=True)
    filters = mel_filter_bank(BINS, bins, 0, SAMPLE_RATE / 2, SAMPLE_RATE, mel_scale="htk")
    mel = spectrum.abs().square().T @ torch.from_numpy(filters).float()
    logs = mel.clamp(min=1e-10).log10()
    frames = torch.maximum(logs, logs.max() - 8) / 4 + 1
    return frames[: len(frames) // 2 * 2].reshape(-1, 2 * bins)
