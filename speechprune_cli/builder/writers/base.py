"""What all writers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from random import Random

from speechprune_cli.builder.script import Brief, Script

CHARACTERS_PER_SECOND = 16.5  # of speech at its usual speed, pauses apart


class Writer(ABC):
    """Writes one script after the other; its fields are its settings."""

    @abstractmethod
    def check(self) -> None:
        """Raises UsageError where something is missing, ModelError where nobody answers."""

    @abstractmethod
    def write(self, brief: Brief, rng: Random, asked: Set[str], pause: float) -> Script:
        """A script as the brief wants it, its question not among those `asked` already.

        `pause` is the mean silence after a sentence in seconds. Raises SpeechPruneError where none
        is to be had.
        """


def spoken_seconds(text: str, pause: float) -> float:
    """About how long a sentence takes, with the silence after it."""
    return len(text) / CHARACTERS_PER_SECOND + pause
