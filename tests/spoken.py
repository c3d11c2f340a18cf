"""A recogniser that hears words in any sound: the same ones in the same sound."""

from __future__ import annotations

import pytest

from speechprune_cli.flow import SAMPLE_RATE, Word
from speechprune_cli.transcripts.piece import Piece
from speechprune_cli.transcripts.recogniser import Recogniser

SENTENCES = "When is the report due? The report is due on Friday. Nobody lives in the red house."
WORDS = [f" {word}" for word in SENTENCES.split()]
WORD_SECONDS = 0.4


class Imagining(Recogniser):
    """A word for every 0.4 s, told by the loudness of its first samples."""

    def transcribe(self, samples, language=None, on_progress=lambda _: None, done=()):
        size = int(WORD_SECONDS * SAMPLE_RATE)
        words = []
        for first in range(0, len(samples), size):
            level = abs(samples[first : first + 100]).sum()
            last = min(first + size, len(samples))
            chosen = WORDS[int(1000 * level) % len(WORDS)]
            words.append(Word(chosen, first / SAMPLE_RATE, last / SAMPLE_RATE))
        on_progress(len(samples) / SAMPLE_RATE)
        yield Piece(0, len(samples), tuple(words), language=language or "en")


@pytest.fixture(scope="module")
def imagining():
    """Whoever loads a recogniser gets this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechprune_cli.transcripts.recogniser.Recogniser", Imagining)
        yield
