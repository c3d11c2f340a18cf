"""The half of an Omni model that hears and writes: its Thinker.

A checkpoint holds the half that speaks too, and the Thinker an encoder of pictures. Neither is
loaded, and of a text answer to sound nothing is lost.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from speechprune_cli.backends.loading import read_config
from speechprune_cli.backends.packed import PackedLM
from speechprune_cli.backends.stock import StockLM

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.backends.shape import Shape

SMALLEST = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 1}
"""An encoder of pictures, as it is left out again."""


class Thinker(PackedLM, StockLM):
    """A stock Thinker, from a checkpoint of its own or, as published, from the whole model's."""

    position_rows = 3
    left_out = frozenset({"visual", "talker", "token2wav", "code2wav"})
    decoder_name = "model.layers"  # in `thinker.model.layers` as in `language_model.layers`
    unquantised = ("model.audio_tower", "lm_head")
    nested: ClassVar[str] = "thinker_config"

    @classmethod
    def read_config(cls, folder: Path) -> Any:
        config = read_config(folder)
        return getattr(config, cls.nested, config)

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        """What hears and writes of the stock processor; what sees would need torchvision."""
        from transformers import AutoTokenizer, ProcessorMixin, WhisperFeatureExtractor

        here: dict[str, Any] = {"local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **here)
        told, _ = ProcessorMixin.get_processor_dict(folder, **here)
        tokenizer.chat_template = told.get("chat_template", tokenizer.chat_template)
        return SimpleNamespace(
            tokenizer=tokenizer,
            feature_extractor=WhisperFeatureExtractor.from_pretrained(folder, **here),
            apply_chat_template=tokenizer.apply_chat_template,
        )

    @classmethod
    def configs(cls, shape: Shape) -> dict[str, Any]:
        told, width = super().configs(shape), shape.decoder.hidden_size
        audio = {**told["audio_config"], "output_dim": width}
        vision = {**SMALLEST, "out_hidden_size": width}
        return {**told, "audio_config": audio, "vision_config": vision}

    def run_encoder(self, features: Tensor, lengths: Tensor) -> Tensor:
        found: Tensor = self.model.model.audio_tower(
            features, feature_lens=lengths
        ).last_hidden_state
        return found
