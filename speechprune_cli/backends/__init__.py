"""Speech LLM families: one file each, found by what a model's `config.json` says it is.

`base.py` is the seam, what the tool asks of any family. How to add one: README.md beside this file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.config import Preset
from speechprune_cli.errors import ModelError
from speechprune_cli.registry import Registry

if TYPE_CHECKING:
    from speechprune_cli.device import Placement

FAMILIES: Registry[SpeechLM] = Registry(
    __name__,
    __path__,
    SpeechLM,
    "model family",
    group="speechprune.families",
    beside=(
        *("base", "composed", "decoding", "listening", "loading", "lora", "packed", "shape"),
        *("stock", "windowed"),
    ),
)


def load_backend(
    preset: Preset,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    offline: bool = False,
) -> SpeechLM:
    """Load a Speech LLM from safetensors; code inside a model folder is never run.

    Raises `UsageError` for a device, dtype or quantisation this machine lacks, `ModelError` for
    files that are missing, gated, offline, pickled or damaged, `OutOfMemoryError` where the
    weights do not fit.
    """
    from speechprune_cli.checkpoint import open_checkpoint

    placement = placed(preset, device, dtype, quantize)
    if preset.family is not None:
        return FAMILIES.part(preset.family).open(preset, revision, offline, placement)
    checkpoint = open_checkpoint(preset, revision, offline)
    model_type = checkpoint.config.get("model_type")
    return family_of(preset, model_type).load(preset, checkpoint, placement)


def placed(preset: Preset, device: str, dtype: str, quantize: str) -> Placement:
    """Where and how the preset's weights are held. Raises UsageError for what is not there."""
    from speechprune_cli.device import place

    if dtype != "auto" or preset.defaults.dtype == "auto":
        return place(device, dtype, quantize)
    found = place(device, preset.defaults.dtype, quantize)
    reason = f"dtype {preset.defaults.dtype}: that of the preset {preset.name}"
    return replace(found, decisions=(*found.decisions, reason))


def family_of(preset: Preset, model_type: object) -> type[SpeechLM]:
    """Who knows models that call themselves so. Raises ModelError where nobody does."""
    if preset.family is not None:
        family = FAMILIES.part(preset.family)
        family.check_type(preset, model_type)
        return family
    names = []
    for name in (*FAMILIES.modules, *FAMILIES.foreign):
        family = FAMILIES.part(name)
        if model_type in family.model_types:
            return family
        names += [name] if family.model_types else []
    raise ModelError(f"{preset.source} is a '{model_type}' model: expected {', '.join(names)}")
