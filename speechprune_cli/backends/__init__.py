"""Speech LLM families: one file each, found by what a model's `config.json` says it is.

`base.py` is the seam, what the tool asks of any family. How to add one: README.md beside this file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.checkpoint import UNREADABLE
from speechprune_cli.config import Preset
from speechprune_cli.errors import ModelError, UsageError, one_line
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
    *,
    decoder: bool = True,
) -> SpeechLM:
    """Load a Speech LLM from safetensors; code inside a model folder is never run.

    Without its `decoder` it encodes and prunes, and builds prompts for a server to read.

    Raises `UsageError` for a device, dtype or quantisation this machine lacks, `ModelError` for
    files that are missing, gated, offline, pickled or damaged, `OutOfMemoryError` where the
    weights do not fit.
    """
    from speechprune_cli.checkpoint import open_checkpoint

    placement = replace(placed(preset, device, dtype, quantize), decoder=decoder)
    with understood(preset):
        if preset.family is not None:
            family = served(FAMILIES.part(preset.family), preset, placement)
            loaded = family.open(preset, revision, offline, placement)
        else:
            checkpoint = open_checkpoint(preset, revision, offline)
            family = served(
                family_of(preset, checkpoint.config.get("model_type")), preset, placement
            )
            loaded = family.load(preset, checkpoint, placement)
        check_text_side(loaded)
    return loaded


def served(family: type[SpeechLM], preset: Preset, placement: Placement) -> type[SpeechLM]:
    """The family. Raises UsageError where a server is to read what no server can."""
    if not (placement.decoder or family.served):
        raise UsageError(
            f"{preset.name} takes no --server: its layers are told the words of a prompt beside "
            "their embeddings, which no server is"
        )
    return family


@contextmanager
def understood(preset: Preset) -> Iterator[None]:
    """Where files of a model are read. Raises ModelError for all that libraries raise there."""
    try:
        yield
    except Exception as error:  # tokenizers raises nothing narrower
        if type(error) is not Exception and not isinstance(error, (*UNREADABLE, *_refusals())):
            raise
        kind = type(error).__name__
        raise ModelError(
            f"{preset.source}: its files are no model that can be read ({kind}: {one_line(error)})"
        ) from error


def _refusals() -> tuple[Any, ...]:
    """Those of the Hub's library for a configuration, where it was imported: that takes a while."""
    errors = sys.modules.get("huggingface_hub.errors")
    return (errors.StrictDataclassError,) if errors else ()


def check_text_side(loaded: SpeechLM) -> None:
    """Raise ModelError where a model's tokenizer or chat template is missing or broken."""
    from jinja2 import TemplateError

    source = loaded.checkpoint.folder
    if not any(map(loaded.text_ids, ("a", "the", "1"))):
        raise ModelError(f"{source}: its tokenizer knows no words: tokenizer.json is missing")
    try:
        loaded.prompt_ids("a")
    except (TemplateError, UsageError) as error:
        raise ModelError(f"{source}: chat template: {one_line(error)}") from error


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
