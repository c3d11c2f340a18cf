"""Fetches published files that have to be, byte for byte, those that were tested.

What has come is kept beside the target in `<name>.part`, so that a fetch that was cut off goes on
where it stopped. The target itself is there only whole, checked and on the disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from speechprune_cli.atomic import locked, sync
from speechprune_cli.errors import SpeechPruneError, UsageError, one_line

NPM_REGISTRY = "https://registry.npmjs.org"
NPM_VARIABLE = "NPM_CONFIG_REGISTRY"
BLOCK = 1 << 20
TIMEOUT = 60


@dataclass(frozen=True)
class Download:
    """A file that somebody has published."""

    url: str
    bytes: int
    sha256: str


def npm_tarball(name: str, version: str) -> str:
    """Where npm would get a package. Raises UsageError for a registry that is no address."""
    registry = os.environ.get(NPM_VARIABLE, NPM_REGISTRY).rstrip("/")
    if not registry.startswith(("http://", "https://")):
        raise UsageError(f"{NPM_VARIABLE}={registry}: give an http(s) address")
    return f"{registry}/{name}/-/{name.rpartition('/')[-1]}-{version}.tgz"


def fetch(
    download: Download, target: Path, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Put the file at `target`; nothing is done where that exists.

    `on_bytes` is told how many bytes there are so far. Raises UsageError where another process
    fetches into the same folder, SpeechPruneError where the network, the disk or the checksum
    fails; of a file with a wrong checksum nothing is kept.
    """
    if target.exists():
        return
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.parent, "download"):
            if target.exists():  # another process was faster
                return
            begun = _size(part)
            _receive(download, part, on_bytes)
            if begun and not _genuine(part, download):  # what was there before was damaged
                part.unlink()
                _receive(download, part, on_bytes)
            if not _genuine(part, download):
                part.unlink()
                wrong = "not the file that was tested (its SHA-256 differs)"
                raise SpeechPruneError(f"{download.url}: {wrong}")
            sync(part)
            part.replace(target)
            sync(target.parent)
    except OSError as error:
        raise SpeechPruneError(f"cannot write {target}: {error.strerror or error}") from error


def _receive(download: Download, part: Path, on_bytes: Callable[[int], None]) -> None:
    """Fill `part` up to the file's length. Raises SpeechPruneError where the network fails."""
    if _size(part) > download.bytes:
        part.unlink()
    part.touch()
    if (done := _size(part)) < download.bytes:
        with part.open("r+b") as file:
            for start, block in _blocks(download.url, done):
                file.seek(start)
                file.truncate()
                file.write(block)
                done = file.tell()
                on_bytes(done)
                if done > download.bytes:
                    break
    if done < download.bytes:
        raise SpeechPruneError(
            f"cannot fetch {download.url}: it broke off after {done:,} of {download.bytes:,} "
            "bytes, which are kept: try again to go on"
        )


def _blocks(url: str, begun: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of the file and where each begins, from `begun` on or, if need be, from the start."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url}: not an http(s) address")
    wanted = {"Range": f"bytes={begun}-"} if begun else {}
    try:
        with urlopen(Request(url, headers=wanted), timeout=TIMEOUT) as answer:  # noqa: S310
            span = answer.headers.get("Content-Range", "")
            goes_on = answer.status == HTTPStatus.PARTIAL_CONTENT and span.startswith(
                f"bytes {begun}-"
            )
            at = begun if goes_on else 0  # else the whole file comes once more
            while block := answer.read(BLOCK):
                yield at, block
                at += len(block)
    except HTTPError as error:
        if not begun or error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise SpeechPruneError(f"cannot fetch {url}: {one_line(error)}") from error
        yield from _blocks(url, 0)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        raise SpeechPruneError(f"cannot fetch {url}: {one_line(reason)}") from error


def _genuine(part: Path, download: Download) -> bool:
    with part.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == download.sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
