"""The shape of any model, from its preset or its `config.json`; no weights are read."""

from __future__ import annotations

import os
from pathlib import Path

from speechprune_cli.backends import FAMILIES, family_of, understood
from speechprune_cli.backends.shape import Shape, shape_of_preset
from speechprune_cli.checkpoint import read_json
from speechprune_cli.config import Preset
from speechprune_cli.hub import download
from speechprune_cli.weights.finding import reader_folder


def stated_shape(preset: Preset) -> Shape | None:
    """As the preset states it; None where it does not. Raises ModelError where it is wrong."""
    if preset.family is None:
        return None
    return shape_of_preset(preset, preset.family, FAMILIES.part(preset.family).encoder_shape)


def shape_of(preset: Preset, revision: str | None = None, offline: bool = False) -> Shape:
    """As the preset states it, else as the family reads the folder's or the Hub's `config.json`.

    Raises ModelError for a file that is missing or no configuration, for a family that nobody
    knows, and for a decoder that the formulas of `costs.py` do not describe.
    """
    if stated := stated_shape(preset):
        return stated
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    folder = Path(preset.source)
    if preset.family is not None and preset.reader is not None:
        folder, _ = reader_folder(preset.reader, offline)
        with understood(preset):
            return FAMILIES.part(preset.family).describe(preset, folder)
    if not folder.is_dir():
        folder = download(
            preset.source,
            ("config.json",),
            kind="model",
            revision=revision or preset.revision,
            offline=offline,
            instead="profile a preset, which needs none",
        )
    config = read_json(folder / "config.json")
    with understood(preset):
        return family_of(preset, config.get("model_type")).describe(preset, folder)
