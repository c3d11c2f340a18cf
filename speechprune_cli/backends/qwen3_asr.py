"""Qwen3-ASR: an AuT encoder, a projector, a Qwen3 decoder, trained to write down what is said.

Recordings of any length are heard in one go. What is asked stands before the recording: the model's
chat template takes text as context alone. The layout that transformers knows is the one of the
checkpoints that end in `-hf`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.backends._aut import AutLM, AutShape
from speechprune_cli.backends.loading import read_config
from speechprune_cli.backends.shape import HOP
from speechprune_cli.backends.stock import StockLM
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.backends.shape import Shape

SHORTEST = SAMPLE_RATE // 2  # shorter recordings are padded to that many samples, which are heard


class Qwen3AsrShape(AutShape):
    """All chunks are padded to a second."""

    def frames(self, samples: int) -> int:
        return max(samples, SHORTEST) // HOP

    def padded(self, frames: int) -> int:
        return self.chunk


class Qwen3Asr(AutLM, StockLM):
    """A `Qwen3ASRForConditionalGeneration`, stock."""

    family = "qwen3_asr"
    model_types = ("qwen3_asr",)
    code_version = "qwen3_asr/1"
    encoder_shape = Qwen3AsrShape
    model_class = "Qwen3ASRForConditionalGeneration"
    processor_class = "Qwen3ASRProcessor"

    @classmethod
    def read_config(cls, folder: Path) -> Any:
        config = read_config(folder)
        if hasattr(config, "thinker_config"):
            raise ModelError(
                f"{folder}: in the layout of the package qwen-asr: take the same model whose name "
                "ends in -hf"
            )
        return config

    @classmethod
    def configs(cls, shape: Shape) -> dict[str, Any]:
        told = super().configs(shape)
        audio = {**told["audio_config"], "output_dim": shape.decoder.hidden_size}
        return {**told, "audio_config": audio}

    @classmethod
    def random_extractor(cls, shape: Shape) -> Any:
        from transformers import Qwen3ASRFeatureExtractor

        return Qwen3ASRFeatureExtractor(feature_size=shape.encoder.model_dump()["num_mel_bins"])

    def messages(self, asked: str) -> list[dict[str, Any]]:
        context = {"role": "system", "content": [{"type": "text", "text": asked}]}
        return [context, {"role": "user", "content": [self.audio_content]}]

    def features(self, audio: Audio) -> Tensor:
        found: Tensor = self.extractor(
            audio.samples, sampling_rate=SAMPLE_RATE, padding=True, n_window=0
        )["input_features"][0]
        return found

    def run_encoder(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Windows are whole blocks, all but the last: in a row, they are a recording again."""
        import torch
        from torch.nn.functional import pad

        frames, missing = features.shape[-1], -features.shape[-1] % self.encoder.chunk
        mask = pad(torch.ones(1, frames, dtype=torch.int64, device=self.device), (0, missing))
        padded = pad(features, (0, missing)).unsqueeze(0).to(self.dtype)
        found: Tensor = self.model.model.get_audio_features(padded, mask).pooler_output
        return found
