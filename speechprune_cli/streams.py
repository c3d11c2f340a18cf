"""Standard streams of every kind: closed, full, or unable to hold all characters."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

NOWHERE = Path(os.devnull)


def prepare_streams() -> None:
    """Stand-ins for streams that are closed, and escapes for what they cannot hold."""
    genuine = sys.stderr is sys.__stderr__
    if sys.stdin is None:
        sys.stdin = NOWHERE.open(encoding="utf-8")
    if sys.stdout is None:  # every write is refused, so that no result is lost in silence
        sys.stdout = os.fdopen(os.open(NOWHERE, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = NOWHERE.open("w", encoding="utf-8")
    elif genuine:
        file = os.fdopen(sys.stderr.fileno(), "wb", closefd=False)
        sys.stderr = Remarks(file, sys.stderr.encoding, "backslashreplace", line_buffering=True)
    for stream, errors in ((sys.stdout, "backslashreplace"), (sys.stdin, "surrogateescape")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)


def is_closed() -> bool:
    """Whether standard input was closed from the start."""
    return getattr(sys.stdin, "name", None) == str(NOWHERE)


class Remarks(TextIOWrapper):
    """Standard error: where it cannot be written, the result is worth more than a remark."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()
