"""Qwen3-Omni: an AuT encoder, a projector, a decoder with a mixture of experts in every layer.

Recordings of any length are heard in one go, as by the stock processor: their loudest moment sets
the floor for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechprune_cli.backends._aut import AutLM, AutShape
from speechprune_cli.backends._thinker import Thinker
from speechprune_cli.flow import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from torch import Tensor


class Qwen3Omni(AutLM, Thinker):
    """A `Qwen3OmniMoeThinkerForConditionalGeneration`, stock."""

    family = "qwen3_omni"
    model_types = ("qwen3_omni_moe_thinker", "qwen3_omni_moe")
    code_version = "qwen3_omni/1"
    encoder_shape = AutShape
    model_class = "Qwen3OmniMoeThinkerForConditionalGeneration"

    def features(self, audio: Audio) -> Tensor:
        found: Tensor = self.extractor(
            audio.samples,
            sampling_rate=SAMPLE_RATE,
            padding=True,
            truncation=False,
            return_tensors="pt",
        )["input_features"][0]
        return found
