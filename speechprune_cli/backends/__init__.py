"""Speech LLM families, one module each, found by the checkpoint's `model_type`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from speechprune_cli.errors import ModelError

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.config import Preset

FAMILIES = tuple(
    sorted(
        module.name
        for module in pkgutil.iter_modules(__path__)
        if module.name != "base" and not module.name.startswith("_")
    )
)


def load_backend(
    preset: Preset,
    *,
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
    from speechprune_cli.device import place

    placement = place(device, dtype, quantize)
    checkpoint = open_checkpoint(preset, revision, offline)
    family = checkpoint.config.get("model_type")
    if family not in FAMILIES or preset.family not in (None, family):
        known = preset.family or ", ".join(FAMILIES)
        raise ModelError(f"{preset.source} is a '{family}' model: expected {known}")
    return import_module(f"{__name__}.{family}").Backend.load(preset, checkpoint, placement)
