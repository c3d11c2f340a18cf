"""A model of full size with random weights, so that nothing has to be downloaded.

Times and memory depend on the shapes alone, not on the weights' values.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig, WhisperFeatureExtractor

from speechprune_cli.backends import FAMILIES
from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.config import Architecture, Preset
from speechprune_cli.device import Placement, memory_guard
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.profiler.counted import architecture_of, weights_bytes

REVISION = "random weights"
SEED = 0
QUESTION_IDS = list(range(8))
"""Word embeddings of a short question."""


def random_backend(preset: Preset, placement: Placement) -> SpeechLM:
    """The preset's architecture on the device, ready to be timed; it reads no text.

    Raises UsageError for a quantised one, ModelError for a family that has no backend,
    `OutOfMemoryError` where the weights do not fit.
    """
    if placement.quantize != "none":
        raise UsageError("--random-weights come unquantised: leave --quantize out")
    if preset.family not in FAMILIES:
        raise ModelError(f"{preset.name}: weights can be made up for {', '.join(FAMILIES)} alone")
    shape = architecture_of(preset)
    family = import_module(f"speechprune_cli.backends.{preset.family}").Backend
    needed = int(weights_bytes(preset, str(placement.dtype).removeprefix("torch.")))
    hint = "--dtype bfloat16, another --device or the model nano"
    with memory_guard(f"building {preset.name}", needed, placement.device, hint):
        model = _model(family, preset.family, shape, placement)
    checkpoint = Checkpoint(Path(), preset.source, REVISION, {}, ())
    return family(preset, checkpoint, placement, model, _processor(shape))


def _model(family: type[SpeechLM], name: str, shape: Architecture, placement: Placement) -> Any:
    if shape.encoder is None:
        raise ModelError(f"a '{name}' model needs an encoder")
    config = AutoConfig.for_model(
        name, text_config=shape.decoder.model_dump(), audio_config=shape.encoder.model_dump()
    )
    torch.manual_seed(SEED)
    with placement.device:
        model = family.model_class._from_config(
            config, dtype=placement.dtype, attn_implementation="sdpa"
        )
    model.generation_config.eos_token_id = 0
    return model.eval()


def _processor(shape: Architecture) -> SimpleNamespace:
    """What turns sound into mel frames, and any text into the same few tokens."""
    bins = shape.encoder.num_mel_bins if shape.encoder else None
    extractor = WhisperFeatureExtractor(feature_size=bins, return_attention_mask=True)
    return SimpleNamespace(feature_extractor=extractor, tokenizer=_tokenize)


def _tokenize(_text: str, **_: Any) -> SimpleNamespace:
    return SimpleNamespace(input_ids=QUESTION_IDS)
