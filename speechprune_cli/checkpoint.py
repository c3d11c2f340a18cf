"""Model folders: finding or downloading them, and checking the files before they are loaded.

Weights are read from safetensors only: a pickled file can run any code it likes when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from speechprune_cli.config import HUB_ID, PACKAGE, Preset
from speechprune_cli.errors import ModelError, one_line
from speechprune_cli.hub import PAGES, download

if TYPE_CHECKING:
    from torch import Tensor

INSTEAD = "use a --model that is here: `speechprune models` lists them"
WANTED = ("*.json", "*.safetensors", "*.jinja", "merges.txt", "*.model")
UNWANTED = ("*consolidated*.safetensors", "*.fp32*")
"""The same weights once more, by names of their makers' own code or in another dtype."""
SETTINGS = (
    "generation_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
INDEX = "model.safetensors.index.json"
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,  # of mistral-common
    RecursionError,
)
"""What libraries raise for files that are not as they expect."""
HASH_UP_TO = 256 * 2**20
"""Files up to this size (the embedded model) are identified by content, larger ones by size and
modification time."""


@dataclass(frozen=True)
class Checkpoint:
    """A model folder whose files are all there."""

    folder: Path
    source: str
    revision: str  # the Hub's commit, or a fingerprint of a local folder
    config: dict[str, Any]
    weights: tuple[Path, ...]
    left_out: frozenset[str] = frozenset()  # modules in the files that nobody loads
    parts: tuple[Checkpoint, ...] = ()  # further ones that it is put together with

    @property
    def parameters(self) -> int:
        """Number of weights, from the headers of the files."""
        total = 0
        for path in self.weights:
            with safe_open(path, framework="pt") as file:
                names = filter(self._is_loaded, file.keys())
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in names)
        return total

    def _is_loaded(self, name: str) -> bool:
        return self.left_out.isdisjoint(name.split("."))

    @property
    def page(self) -> str:
        """Where people get its files."""
        return f"{PAGES['model']}{self.source}" if HUB_ID.fullmatch(self.source) else "its makers"

    @cached_property
    def damaged(self) -> str | None:
        """File and name of the first weight that holds NaN or infinity; None where none does."""
        for path in self.weights:
            with safe_open(path, framework="pt") as file:
                for name in filter(self._is_loaded, file.keys()):
                    weight = file.get_tensor(name)
                    plain = weight.is_floating_point() and weight.itemsize > 1
                    if plain and not weight.isfinite().all():
                        return f"{path}: the weight {name}"
        return next(filter(None, (part.damaged for part in self.parts)), None)

    def read_tensor(self, part: str, suffix: str) -> Tensor:
        """The one tensor of a part, which its name says, that ends in `suffix`, as it was saved."""
        for path, name in self._tensors(part, suffix):
            with safe_open(path, framework="pt") as file:
                return file.get_tensor(name)
        raise ModelError(f"{self.folder}: no weight of {part} ends in {suffix}")

    def has_tensor(self, part: str, suffix: str) -> bool:
        """Whether there is one."""
        return any(self._tensors(part, suffix))

    def _tensors(self, part: str, suffix: str) -> Iterator[tuple[Path, str]]:
        for path in self.weights:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if part in name and name.endswith(suffix)]  # noqa: SIM118 - safe_open is no mapping
            yield from ((path, name) for name in names if self._is_loaded(name))


def open_checkpoint(
    preset: Preset, revision: str | None, offline: bool, instead: str = INSTEAD
) -> Checkpoint:
    """Find the preset's folder, downloading it if need be, and check its files.

    `instead` is what can be done where there is no network. `offline` holds for the process from
    here on: the Hub's library reads it once, on import. Raises `ModelError`
    for whatever is missing, gated, offline, pickled or damaged.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    folder, commit = _local_folder(preset), ""
    if folder is None:
        folder = download(
            preset.source,
            WANTED,
            kind="model",
            revision=revision or preset.revision,
            offline=offline,
            instead=instead,
            unwanted=UNWANTED,
        )
        commit = folder.name
    elif revision is not None:
        raise ModelError(f"{preset.source} is a folder on this machine: it has no --revision")
    return read_checkpoint(folder, commit, source=preset.source)


def read_checkpoint(folder: Path, revision: str, *, source: str) -> Checkpoint:
    """The files of a folder, checked; without a revision they are told apart by a fingerprint."""
    config = read_json(folder / "config.json")
    for name in SETTINGS:
        if (folder / name).exists():
            read_json(folder / name)
    weights = _weight_files(folder)
    for path in weights:
        check_weights(path)
    return Checkpoint(folder, source, revision or _fingerprint(folder), config, weights)


def check_weights(path: Path) -> None:
    """Raise ModelError where a file of weights is damaged or shorter than its header says."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or cut short: {one_line(error)}") from error


def is_local(preset: Preset) -> bool:
    """Whether the preset's weights are on this machine already. Never touches the network."""
    folder = _local_folder(preset)
    if folder is None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(preset.source, "config.json", revision=preset.revision)
        if not isinstance(found, str):
            return False
        folder = Path(found).parent
    try:
        return bool(_weight_files(folder))
    except ModelError:
        return False


def _local_folder(preset: Preset) -> Path | None:
    if preset.source.startswith("package:"):
        return PACKAGE / preset.source.removeprefix("package:")
    folder = Path(preset.source)
    return folder if folder.is_dir() or not HUB_ID.fullmatch(preset.source) else None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a model folder. Raises ModelError where there is none."""
    if not path.is_file():
        raise ModelError(f"{path.parent} is no model folder: {path.name} is missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object")
    return content


def _weight_files(folder: Path) -> tuple[Path, ...]:
    names = ["model.safetensors"]
    if (folder / INDEX).is_file():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(at, str) for at in listed.values()):
            raise ModelError(f"{folder / INDEX}: weight_map is no list of files by weights")
        names = sorted(set(listed.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if names and not missing:
        return tuple(folder / name for name in names)
    if pickled := sorted(p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".pth"}):
        raise ModelError(
            f"{folder} holds pickled weights ({pickled[0]}), which can run code when opened: "
            "refused, convert them to safetensors"
        )
    raise ModelError(f"{folder}: weight file missing: {', '.join(missing) or 'none is listed'}")


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        stat = path.stat()
        digest.update(path.name.encode())
        if stat.st_size <= HASH_UP_TO:
            digest.update(path.read_bytes())
        else:
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return f"local-{digest.hexdigest()[:16]}"
