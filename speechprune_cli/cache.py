"""Encoded recordings kept on disk, so that a second question does not encode again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from speechprune_cli.flow import AudioTokens

FOLDER_VARIABLE = "SPEECHPRUNE_CACHE_DIR"
TENSORS = ("embeds", "times", "loudness", "attention")
NUMBERS = ("per_second", "seconds", "encode_seconds")
"""The fields of AudioTokens that are kept, and those that are kept as metadata."""
ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors")
UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{32}\.tmp")
"""Names of our files; no other is ever removed."""
STALE_SECONDS = 3600
"""An unfinished file of that age belongs to a run that was killed."""

log = logging.getLogger("speechprune")


class TokenCache:
    """A folder of `<key>.safetensors`, the least recently used removed above `max_bytes`.

    Any number of processes may share it: a file appears complete or not at all. Trouble with the
    disk costs time, never the answer: it is logged as one warning and the run goes on.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = 2 * 2**30) -> None:
        self.folder = folder or _default_folder()
        self.max_bytes = max_bytes

    @staticmethod
    def key(
        *,
        audio_sha256: str,
        model: str,
        revision: str | None,
        dtype: str,
        code_version: str | int,
    ) -> str:
        """All that the tokens depend on, as 64 hexadecimal digits."""
        fields = {
            "audio_sha256": audio_sha256,
            "model": model,
            "revision": revision,
            "dtype": dtype,
            "code_version": code_version,
        }
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
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

        size = sum(getattr(tokens, name).nbytes for name in TENSORS)
        if size > self.max_bytes:
            log.warning(
                "cache: not kept, %.1f MB is above the limit of %.1f MB",
                size / 1e6,
                self.max_bytes / 1e6,
            )
            return
        temporary = self.folder / f".{key}.{uuid4().hex}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(temporary, tokens)
            temporary.replace(self._path(key))
            self._evict()
        except (SafetensorError, OSError) as error:
            log.warning("cache: cannot keep the encoded recording in %s (%s)", self.folder, error)
        finally:
            _remove(temporary)

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


def _default_folder() -> Path:
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("speechprune")) / "tokens"


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _write(path: Path, tokens: AudioTokens) -> None:
    from safetensors.torch import save_file

    tensors = {name: getattr(tokens, name).contiguous() for name in TENSORS}
    save_file(
        tensors, path, metadata={name: repr(float(getattr(tokens, name))) for name in NUMBERS}
    )


def _read(path: Path) -> AudioTokens:
    """In one go and not mapped into memory: another process may remove the file at any time."""
    from safetensors.torch import load

    from speechprune_cli.flow import AudioTokens

    content = path.read_bytes()
    found = load(content)
    tensors = {name: found[name] for name in TENSORS}
    total = len(tensors["embeds"])
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    if tensors["embeds"].ndim != 2 or shapes[1:] != [(total, 2), (total,), (total,)]:
        raise ValueError(f"shapes {', '.join(map(str, shapes))}")
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    numbers = {name: float(header["__metadata__"][name]) for name in NUMBERS}
    return AudioTokens(
        embeds=tensors["embeds"],
        times=tensors["times"],
        loudness=tensors["loudness"],
        attention=tensors["attention"],
        from_cache=True,
        **numbers,
    )
