"""Files that are complete or not there at all, folders that one process holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from speechprune_cli.errors import SpeechPruneError, UsageError

PARTIAL = re.compile(r"\.[^.]+\.[0-9a-f]{32}\.[a-z0-9]+")  # what a kill leaves of `atomic`


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place at the end, once it is on the disk.

    Whatever goes wrong, an interrupt included, leaves `path` as it was and nothing beside it. Its
    mode is that of any new file, also where the writer (safetensors) makes its files private.
    Raises `SpeechPruneError` where the system refuses to write.
    """
    temporary = path.with_name(f".{path.stem}.{uuid4().hex}{path.suffix}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise SpeechPruneError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on the disk."""
    if path.is_dir() and os.name != "posix":  # where a folder cannot be opened
        return
    file = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the folder of a `what`; the system lets go of it when the process ends, however it ends.

    Raises `UsageError` where another process holds it, `SpeechPruneError` where the system refuses.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        held = lock.acquire()
    except Timeout:
        raise UsageError(f"{folder} is in use by another {what}") from None
    except OSError as error:
        raise SpeechPruneError(f"cannot write {lock.lock_file}: {error.strerror}") from error
    with held:
        yield
