"""Folders of weights that are complete or not there at all.

    <cache>/stored/NAME            a part of presets, as `models get` puts it there
    <cache>/stored/.NAME.partial   what has come of it so far
    <cache>/models/KEY             a model of the user's own, converted

A complete one says in `stored.json` what it is and how long its files are. It gets its name only
when all of it is on the disk.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from speechprune_cli.atomic import atomic, locked, sync
from speechprune_cli.config import Part, Preset
from speechprune_cli.errors import ModelError, SpeechPruneError
from speechprune_cli.folders import cache_folder

RECORD = "stored.json"
NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Stored:
    """A folder that was complete when it got its name."""

    folder: Path
    revision: str  # changes with the content
    files: dict[str, int]  # bytes by name

    @property
    def bytes(self) -> int:
        """On the disk."""
        return sum(self.files.values())

    @property
    def damage(self) -> str:
        """The first file that is not as long as it was; empty where all are."""
        for name, size in self.files.items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != size:
                return name
        return ""


def stored_folder(name: str) -> Path:
    """Where a part lies or would lie. Raises ModelError for what is no name."""
    if not NAME.fullmatch(name):
        raise ModelError(f"stored:{name}: no name of a stored model")
    return cache_folder("stored") / name


def partial_folder(folder: Path) -> Path:
    """Where `folder` is being made."""
    return folder.with_name(f".{folder.name}.partial")


def find(folder: Path) -> Stored | None:
    """What lies there, perhaps damaged since; None where nothing is complete."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Stored(folder, record["revision"], record["files"])
    except (OSError, ValueError, KeyError):
        return None


def complete(made: Path, folder: Path, revision: str) -> Stored:
    """Let the folder `made` take its place, once all of it is on the disk."""
    paths = [path for path in made.iterdir() if path.name != RECORD]
    files = {path.name: path.stat().st_size for path in paths}
    with atomic(made / RECORD) as temporary:
        record = {"revision": revision, "files": files}
        temporary.write_text(json.dumps(record), encoding="utf-8")
    mode = (made / RECORD).stat().st_mode
    for path in paths:
        path.chmod(mode)  # safetensors makes its files private
        sync(path)
    sync(made)
    discard(folder)
    made.replace(folder)
    sync(folder.parent)
    return Stored(folder, revision, files)


def made_once(folder: Path, make: Callable[[Path], str]) -> Stored:
    """What lies at `folder`; where nothing does, `make` fills a folder and returns its revision.

    Where another process makes something there, that is waited for. Raises SpeechPruneError where
    the system refuses to write.
    """
    if found := _whole(folder):
        return found
    with writing(folder, "conversion", wait=True):
        if found := _whole(folder):
            return found
        partial = partial_folder(folder)
        discard(partial)
        partial.mkdir()
        return complete(partial, folder, make(partial))


def _whole(folder: Path) -> Stored | None:
    """What lies there complete and undamaged."""
    found = find(folder)
    return found if found and not found.damage else None


@contextmanager
def writing(folder: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the place of `folder` as `locked` does; a disk that refuses is one line."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent, what, wait=wait):
            yield
    except OSError as error:
        raise SpeechPruneError(f"cannot write {folder}: {error.strerror or error}") from error


def discard(folder: Path) -> None:
    """Remove a folder of ours, of a link the link alone; nothing where there is none."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def bytes_in(folder: Path) -> int:
    """Of the files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove(part: Part) -> int:
    """Free what a part takes, also where it is half fetched; returns how many bytes that were."""
    folder = stored_folder(part.stored or "")
    partial = partial_folder(folder)
    with writing(folder, "download"):
        freed = bytes_in(folder) + bytes_in(partial)
        discard(partial)
        if folder.exists():
            folder.replace(partial)  # a removal that is cut off leaves nothing that looks complete
        discard(partial)
    return freed


def presence(preset: Preset) -> str:
    """Of a preset whose parts are stored: whether they are on this machine."""
    found = [find(stored_folder(part.stored or "")) for part in preset.stored_parts]
    if any(each and each.damage for each in found):
        return "damaged"
    if all(found):
        return "on this machine"
    begun = any(partial_folder(stored_folder(p.stored or "")).exists() for p in preset.stored_parts)
    return "partly here" if begun or any(found) else "not downloaded"


def bytes_on_disk(preset: Preset) -> int:
    """What there is of a preset whose parts are stored, half fetched parts included."""
    folders = [stored_folder(part.stored or "") for part in preset.stored_parts]
    return sum(bytes_in(folder) + bytes_in(partial_folder(folder)) for folder in folders)
