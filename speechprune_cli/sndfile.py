"""What libsndfile decodes better: Vorbis, where FFmpeg is off by some milliseconds, and NMS ADPCM.

That FFmpeg takes for a codec of telephones, and makes noise of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BufferedReader, FileIO

import soundfile

from speechprune_cli.decoder import BLOCK_FRAMES, Block
from speechprune_cli.stated import Part, sound_bytes


class SoundFile:
    """A whole file of one stream, with the attributes of a `Recording`.

    Raises what soundfile raises for what it cannot open.
    """

    tracks = number = 1
    is_default, film, is_damaged = True, False, False
    bytes_end = 0

    def __init__(self, file: BufferedReader | FileIO) -> None:
        # by name, or by descriptor where it has none: reading through Python swallows Ctrl-C
        name = os.fsencode(file.name) if isinstance(file.name, str) else file.name
        self._bytes = Part(file)
        file.seek(0)
        self._file = soundfile.SoundFile(name, closefd=False)
        self.close = self._file.close
        self.lost: list[tuple[float, float]] = []
        self.jumps: list[tuple[float, float]] = []
        self._read = 0

    def blocks(self) -> Iterator[Block]:
        """All of its sound."""
        rate: int = self._file.samplerate
        try:
            while len(block := self._file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                self._read += len(block)
                yield block, rate
        except soundfile.LibsndfileError:
            self.is_damaged = True

    def seconds(self) -> float:
        """Length without decoding."""
        return float(self._file.frames / self._file.samplerate)

    def missing(self) -> float:
        """Seconds that it states and that are not there, once all of it was read."""
        return float((self._file.frames - self._read) / self._file.samplerate)

    def is_cut(self) -> bool:
        """Whether its bytes end before its structure does."""
        claimed, there = sound_bytes(self._bytes) or (0, 0)
        return claimed - there > 1
