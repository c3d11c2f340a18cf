"""Files that are complete or not there at all, folders that one process holds."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from speechprune_cli.errors import SpeechPruneError, UsageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger("speechprune")
MOMENT = 0.3  # seconds; others may hold a folder just to look what is in it
FORSAKEN = 3600  # seconds since something was written, after which nobody will go on
PARTIAL = re.compile(r"\.[^.]+\.[0-9a-f]{32}\.[a-z0-9]+")  # what a kill leaves of `atomic`


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place at the end, once it is on the disk.

    Whatever goes wrong, an interrupt included, leaves `path` as it was and nothing beside it; what
    a kill leaves is removed by who writes `path` an hour later. Its mode is that of any new file,
    also where the writer (safetensors) makes its files private. Raises `SpeechPruneError` where the
    system refuses to write.
    """
    _remove_forsaken(path)
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


def _remove_forsaken(path: Path) -> None:
    """What was begun beside `path` and has not grown for an hour."""
    begun = re.compile(re.escape(f".{path.stem}.") + "[0-9a-f]{32}" + re.escape(path.suffix))
    with suppress(OSError):  # where a folder cannot be read
        for found in filter(begun.fullmatch, os.listdir(path.parent)):  # noqa: PTH208 - names do
            with suppress(OSError):
                if time.time() - (path.parent / found).stat().st_mtime > FORSAKEN:
                    (path.parent / found).unlink()


def sweep(folder: Path) -> None:
    """Remove what kills left of `atomic` in a folder that this process holds."""
    for path in folder.rglob(".*"):
        if PARTIAL.fullmatch(path.name):
            path.unlink()


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
def locked(folder: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder of a `what`; the system lets go of it when the process ends, however it ends.

    Where another process holds it, that is waited for, which a warning says, or `UsageError` is
    raised. Raises `SpeechPruneError` where the system refuses.
    """
    from filelock import FileLock

    with _acquired(FileLock(folder / ".lock"), f"{folder} is in use by another {what}", wait):
        yield


def _acquired(lock: BaseFileLock, taken: str, wait: bool) -> AbstractContextManager[BaseFileLock]:
    """The lock, held until the context ends; `taken` says that somebody else holds it."""
    from filelock import Timeout

    try:
        return lock.acquire(timeout=MOMENT)
    except Timeout:
        if not wait:
            raise UsageError(taken) from None
    except OSError as error:
        raise SpeechPruneError(f"cannot write {lock.lock_file}: {error.strerror}") from error
    log.warning("%s: waiting for it to end", taken)
    return lock.acquire()
