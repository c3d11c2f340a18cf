"""What is done of a recording, on disk as it goes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from io import FileIO
from pathlib import Path

from speechprune_cli.flow import Word
from speechprune_cli.transcripts.piece import Piece

log = logging.getLogger("speechprune")


class Journal:
    """The pieces of a recording, and a file that has a line for each as soon as it is there.

    What a killed run left in the file comes first, up to the first line that is torn or damaged.
    Where the disk refuses, which one warning says, and without a path, pieces are only held in
    memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.pieces: list[Piece] = []
        self._file: FileIO | None = None

    def __enter__(self) -> Journal:
        if self.path:
            with self._refusal():
                self.path.touch()
                self._file = self.path.open("r+b", buffering=0)
                sound = self._read()
                self._file.seek(sound)
                self._file.truncate()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    @property
    def kept(self) -> bool:
        """Whether all its pieces are in the file."""
        return self._file is not None

    def add(self, piece: Piece) -> None:
        """One more, handed to the system before this returns."""
        self.pieces.append(piece)
        if self._file:
            with self._refusal():
                self._file.write(_line(piece))

    def remove(self) -> None:
        """The file, once nobody needs it."""
        self.__exit__()
        if self.path:
            with suppress(OSError):
                self.path.unlink()

    def _read(self) -> int:
        """Take what is sound, and tell how many bytes that is."""
        sound = 0
        for line in self._file or ():
            piece = _piece(line)
            if piece is None or piece.start != (self.pieces[-1].end if self.pieces else 0):
                break
            self.pieces.append(piece)
            sound += len(line)
        return sound

    @contextmanager
    def _refusal(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("transcripts: what is done cannot be kept in %s (%s)", self.path, error)
            self.__exit__()
            self._file = None


def _line(piece: Piece) -> bytes:
    text = json.dumps(asdict(piece))
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}\n".encode()


def _piece(line: bytes) -> Piece | None:
    """None for a line that is not, to the last byte, what was written."""
    digest, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or hashlib.sha256(text[:-1]).hexdigest().encode() != digest:
        return None
    fields = json.loads(text)
    words = tuple(Word(**word) for word in fields.pop("words"))
    dropped = tuple((start, end) for start, end in fields.pop("dropped"))
    return Piece(**fields, words=words, dropped=dropped)
