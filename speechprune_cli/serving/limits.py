"""How much a server takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MEGABYTE = 10**6


@dataclass(frozen=True)
class Limits:
    """What is beyond is refused, with the limit in the message."""

    queue: int = 32  # requests that may wait
    batch_size: int = 8  # prompts read together
    megabytes: int = 100  # of a recording's file
    seconds: float = 4 * 3600  # of a recording
    letters: int = 20_000  # of a question and its options
    choices: int = 100
    new_tokens: int = 4096  # of an answer
    timeout: float = 600  # seconds, from a request's end to the end of its answer
    remembered_megabytes: int = 512  # of encoded recordings

    def too_long(self, question: str, choices: Sequence[str]) -> str:
        """Why a question and its options are not taken; empty where they are."""
        letters = len(question) + sum(map(len, choices))
        told = f"question and choices have {letters:,} letters, {self.letters:,} are taken"
        return told if letters > self.letters else ""

    @property
    def body_bytes(self) -> int:
        """Of a request: the recording takes four thirds of its bytes as base64."""
        return self.megabytes * MEGABYTE * 4 // 3 + MEGABYTE

    @property
    def received_bytes(self) -> int:
        """Of all requests that are there at a time."""
        return 8 * self.body_bytes
