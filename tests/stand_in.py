"""A recogniser that needs no model: what it writes follows from the sound alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from speechprune_cli.flow import SAMPLE_RATE, Audio, Word
from speechprune_cli.transcripts.piece import Piece


def recording(seconds: int) -> Audio:
    """Noise that is louder every second."""
    noise = np.random.default_rng(0).normal(0, 0.1, seconds * SAMPLE_RATE)
    louder = np.linspace(0, 1, len(noise)) * noise
    return Audio(louder.astype(np.float32), "noise", "a" * 64, SAMPLE_RATE, 1, seconds)


class StandIn:
    """A sentence of two words a second, one piece each."""

    def __init__(
        self, *, refuse: bool = False, stop_after: int | None = None, only: str = ""
    ) -> None:
        self.revision = "stand-in"
        self.settings = {"beam": 1}
        self.origin = "a stand-in"
        self.refuse = refuse
        self.stop_after = stop_after
        self.only = only  # the one language that it knows
        self.made = 0

    def transcribe(
        self,
        samples: np.ndarray,
        language: str | None = None,
        on_progress: Callable[[float], None] = lambda _: None,
        done: Sequence[Piece] = (),
    ) -> Iterator[Piece]:
        """The pieces that follow those `done`."""
        assert not self.refuse
        for start in range(done[-1].end if done else 0, len(samples), SAMPLE_RATE):
            if self.made == self.stop_after:
                raise KeyboardInterrupt
            second = start // SAMPLE_RATE
            level = int(1e6 * np.abs(samples[start : start + SAMPLE_RATE]).mean())
            words = (
                Word(f" spoken{level}", second + 0.1, second + 0.4),
                Word(" here.", second + 0.4, second + 0.9),
            )
            self.made += 1
            on_progress(second + 1.0)
            yield Piece(start, start + SAMPLE_RATE, words, language=self.only or language or "en")
