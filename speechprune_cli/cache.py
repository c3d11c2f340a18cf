"""Encoded recordings kept on disk, so that a second question does not encode again.

An entry is a safetensors file: the tensors of `AudioTokens`, and as metadata its numbers, the
format's version, and the SHA-256 of all of that.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.atomic import atomic
from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.folders import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.flow import AudioTokens

FORMAT = 4
TENSORS = ("embeds", "times", "loudness", "attention")  # of AudioTokens; the last may be None
NUMBERS = ("per_second", "seconds", "encode_seconds", "nominal_times")  # kept as metadata, in JSON
ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors")
UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{32}\.(safetensors|tmp)")
"""Names of our files; no other is ever removed."""
STALE_SECONDS = 3600  # an unfinished file of that age belongs to a run that was killed

log = logging.getLogger("speechprune")


class TokenCache:
    """A folder of `<key>.safetensors`, the least recently used removed above `max_bytes`.

    Any number of processes may share it: a file appears complete or not at all. Trouble with the
    disk costs time, never the answer: it is logged as one warning and the run goes on.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = 2 * 2**30) -> None:
        self.folder = folder or cache_folder("tokens")
        self.max_bytes = max_bytes

    @staticmethod
    def key(**fields: str | int | None) -> str:
        """All that the tokens depend on, as 64 hexadecimal digits."""
        canonical = json.dumps({"format": FORMAT, **fields}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def get(self, key: str) -> AudioTokens | None:
        """What was put under `key`, on the CPU; None where nothing was, or nothing sound."""
        from safetensors import SafetensorError

        path = self._path(key)
        try:
            tokens = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cache: cannot read %s (%s)", path, error)
            return None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            log.warning("cache: removed the damaged %s (%s)", path, error)
            _remove(path)
            return None
        with suppress(OSError):  # a cache that may only be read, or just evicted elsewhere
            os.utime(path)
        return tokens

    def put(self, key: str, tokens: AudioTokens) -> None:
        """Keep `tokens` under `key`."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        found = {name: getattr(tokens, name) for name in TENSORS}
        tensors = {name: each.contiguous() for name, each in found.items() if each is not None}
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > self.max_bytes:
            sizes = (size / 1e6, self.max_bytes / 1e6)
            log.warning("cache: not kept, %.1f MB is above the limit of %.1f MB", *sizes)
            return
        numbers = {name: json.dumps(getattr(tokens, name)) for name in NUMBERS}
        metadata = {"format": str(FORMAT), **numbers, "sha256": _digest(tensors, numbers)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic(self._path(key)) as temporary:
                save_file(tensors, temporary, metadata)
            self._evict()
        except (SafetensorError, SpeechPruneError, OSError) as error:
            log.warning("cache: cannot keep the encoded recording in %s (%s)", self.folder, error)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _evict(self) -> None:
        entries = []
        stale = time.time() - STALE_SECONDS
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # removed by another process
                status = path.stat()
                if ENTRY.fullmatch(path.name):
                    entries.append((status.st_mtime_ns, status.st_size, path))
                elif UNFINISHED.fullmatch(path.name) and status.st_mtime < stale:
                    _remove(path)
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                return
            _remove(path)
            total -= size


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _read(path: Path) -> AudioTokens:
    """In one go and not mapped into memory: another process may remove the file at any time."""
    from safetensors.torch import load

    from speechprune_cli.flow import AudioTokens

    content = path.read_bytes()
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header["__metadata__"]
    if metadata["format"] != str(FORMAT):
        raise ValueError(f"format {metadata['format']}")
    numbers = {name: metadata[name] for name in NUMBERS}
    if metadata["sha256"] != _digest(tensors, numbers):
        raise ValueError("its content is not what its checksum says")
    fields: dict[str, Any] = {name: json.loads(text) for name, text in numbers.items()}
    return AudioTokens(**{**tensors, **fields}, from_cache=True)


def _digest(tensors: Mapping[str, Tensor], numbers: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and content."""
    import torch

    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()
