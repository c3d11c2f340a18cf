"""Encoded recordings held in memory, the least recently asked about forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio, AudioTokens


@dataclass(frozen=True)
class Heard:
    """A recording that was decoded and encoded; its samples are let go of."""

    audio: Audio
    tokens: AudioTokens

    @property
    def bytes(self) -> int:
        """Of its tensors."""
        values = (getattr(self.tokens, field.name) for field in fields(self.tokens))
        return sum(getattr(value, "nbytes", 0) for value in values)

    def called(self, name: str) -> Heard:
        """The same recording where messages call it something else."""
        from speechprune_cli.audio import label_of

        old, new = label_of(self.audio.source), label_of(name)
        lines = tuple(f"{new}{line.removeprefix(old)}" for line in self.audio.warnings)
        return replace(self, audio=replace(self.audio, source=name, warnings=lines))


class Remembered:
    """At most `most` bytes of recordings, by what their files hold; for any thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: OrderedDict[str, Heard] = OrderedDict()
        self.bytes = 0
        self._lock = Lock()
        self._turns: WeakValueDictionary[str, Lock] = WeakValueDictionary()

    def turn(self, key: str) -> Lock:
        """Held while that recording is looked for and encoded, so that one thread alone does it."""
        with self._lock:
            return self._turns.setdefault(key, Lock())

    def get(self, key: str) -> Heard | None:
        """What was put there, unless it was forgotten."""
        with self._lock:
            if key in self.held:
                self.held.move_to_end(key)
            return self.held.get(key)

    def put(self, key: str, heard: Heard) -> Heard:
        """Keep a recording, and give it back as it is the next time."""
        audio = replace(heard.audio, samples=heard.audio.samples[:0].copy())
        kept = Heard(audio, replace(heard.tokens, from_cache=True))
        with self._lock:
            if kept.bytes <= self.most and key not in self.held:
                self.held[key] = kept
                self.bytes += kept.bytes
            while self.bytes > self.most:
                self.bytes -= self.held.popitem(last=False)[1].bytes
        return heard
