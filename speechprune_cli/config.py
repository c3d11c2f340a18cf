"""Presets: named models, as validated YAML files that ship with the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from speechprune_cli.errors import ModelError, UsageError

PACKAGE = Path(__file__).parent
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class Defaults(BaseModel):
    """What a run uses where neither a flag nor an environment variable says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "cue"
    rate: float = 0.2
    position: Literal["repacked", "original"] = "repacked"
    list_choices: bool = True
    """Whether the prompt of a multiple-choice question shows its options."""


class Decoder(BaseModel):
    """Shape of the language model, each key as transformers' configurations name it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_type: str
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    intermediate_size: PositiveInt
    vocab_size: PositiveInt
    max_position_embeddings: PositiveInt
    """The context limit, in tokens."""


class Encoder(BaseModel):
    """Shape of the audio encoder, a Whisper's, each key as transformers names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    d_model: PositiveInt
    encoder_layers: PositiveInt
    encoder_attention_heads: PositiveInt
    encoder_ffn_dim: PositiveInt
    num_mel_bins: PositiveInt
    max_source_positions: PositiveInt


class Architecture(BaseModel):
    """What a model's costs follow from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: Decoder
    encoder: Encoder | None = None
    """None where it is no Whisper encoder: what it costs is not known then."""


class Preset(BaseModel):
    """A model under a name, or one made up on the spot for a folder or a Hub id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["model"] = "model"
    source: str
    """A Hub id, a folder, or `package:<folder>` for weights inside this package."""
    family: str | None = None
    """Module under `speechprune_cli.backends`; None: the checkpoint's own `model_type`."""
    revision: str | None = None
    summary: str = ""
    caution: str = ""
    """What people should know before they trust an answer."""
    licence: str = "see the model's own page"
    parameters: int | None = None
    architecture: Architecture | None = None
    weights_gb: dict[str, float] = {}
    """Weights in memory, in decimal GB, by dtype or quantisation."""
    window_seconds: float = 30.0
    tokens_per_second: float = 25.0
    defaults: Defaults = Defaults()


def presets_folder() -> Path:
    """Inside the package once installed, beside it in a checkout."""
    packaged = PACKAGE / "presets"
    return packaged if packaged.is_dir() else PACKAGE.parent / "presets"


def list_presets() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def load_preset(name: str) -> Preset:
    """Read and validate one preset.

    Raises `UsageError` that lists the known presets, or the known keys where one is wrong.
    """
    if name not in list_presets():
        raise UsageError(f"no preset '{name}': there are {', '.join(list_presets())}")
    return read_preset(presets_folder() / f"{name}.yaml")


def read_preset(path: Path) -> Preset:
    """Validate the preset in `path`. Raises `UsageError` naming the file, the key and the cure."""
    try:
        return Preset.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model = _model_at(first["loc"][:-1])
        return f"unknown key '{key}': the known ones are {', '.join(model.model_fields)}"
    return f"{key or 'the file'}: {first['msg'].lower()}"


def _model_at(keys: tuple[int | str, ...]) -> type[BaseModel]:
    """The part of a preset that the nested `keys` lead to."""
    parts: dict[int | str, type[BaseModel]] = {"defaults": Defaults, "architecture": Architecture}
    parts |= {"decoder": Decoder, "encoder": Encoder}
    return parts[keys[-1]] if keys else Preset


def resolve_model(name: str) -> Preset:
    """The preset called `name`, or a made-up one for a model folder or a Hub id `org/model`.

    Raises `ModelError` for a path that does not exist and `UsageError`, listing the presets, for
    anything else.
    """
    if name in list_presets():
        return load_preset(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Preset(name=name, source=str(folder.resolve()), summary="a local folder")
    if folder.is_file():
        raise ModelError(f"{name} is a file: --model wants the folder that holds config.json")
    if name.startswith((".", "~", "/")) or folder.is_absolute():
        raise ModelError(f"no model folder {name}")
    if HUB_ID.fullmatch(name):
        return Preset(name=name, source=name, summary="a model on the Hugging Face Hub")
    raise UsageError(
        f"unknown model '{name}': give a preset ({', '.join(list_presets())}), "
        "a folder or a Hub id such as org/model"
    )
