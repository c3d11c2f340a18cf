"""A process that is killed at one of its file operations: before it, or half-way through it."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.chmod")


@dataclass(frozen=True)
class Death:
    """Comes before the operation of that number, counted from 0; None only counts.

    Operations are all that change files below `folder`: opening one to write, renaming, removing,
    making a folder; and what is written or synced by the number of an open file, where half of
    what was to be written comes first. It comes, too, where a file would get longer than
    `file_bytes`.
    """

    folder: Path
    at: int | None = None
    file_bytes: int | None = None

    def lie_in_wait(self) -> Operations:
        """From now on, in this process."""
        if self.file_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_bytes, self.file_bytes))
        operations = Operations(os.fsencode(self.folder), self.at)
        sys.addaudithook(operations.audit)
        _precede("write", operations.written)
        _precede("fsync", lambda _: operations.next())
        return operations


class Operations:
    """How many there were."""

    def __init__(self, below: bytes, last: int | None) -> None:
        self.below, self.last = below, last
        self.count = 0

    def next(self, then: Callable[[], object] = lambda: None) -> None:
        """One more; the last never comes."""
        if self.count == self.last:
            then()
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def written(self, file: int, data: bytes) -> None:
        """By `os.write`."""
        self.next(lambda: os.pwrite(file, data[: len(data) // 2], os.lseek(file, 0, os.SEEK_CUR)))

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See `sys.addaudithook`."""
        if event == "open":
            path, _, flags = arguments
            changes = bool(flags and flags & WRITING)
        else:
            path, changes = (arguments[0], True) if event in EVENTS else (None, False)
        if changes and isinstance(path, str | bytes | os.PathLike):
            absolute = os.path.abspath(os.fsencode(path))  # noqa: PTH100 - of bytes
            if absolute.startswith(self.below):
                self.next()


def _precede(name: str, before: Callable[..., object]) -> None:
    inner = getattr(os, name)

    def outer(*arguments: Any) -> Any:
        before(*arguments)
        return inner(*arguments)

    setattr(os, name, outer)
