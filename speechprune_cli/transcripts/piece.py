"""Parts of a recording that are recognised one after another, and the transcript they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speechprune_cli.flow import SAMPLE_RATE, Transcript, Word
from speechprune_cli.transcripts.languages import language_name
from speechprune_cli.transcripts.transcript import sentences_of
from speechprune_cli.transcripts.trust import Stretch, without_loops
from speechprune_cli.units import clock, length

LISTED = 5  # stretches that a note names


@dataclass(frozen=True)
class Piece:
    """What was said between two samples of a recording; the next piece begins at the second."""

    start: int
    end: int
    words: tuple[Word, ...] = ()
    dropped: tuple[Stretch, ...] = ()  # where the words were not to be trusted
    language: str | None = None  # None until somebody speaks
    sure: float | None = None  # how likely it is that language, None where it was asked for

    @property
    def seconds(self) -> float:
        """How far into the recording it reaches."""
        return self.end / SAMPLE_RATE


def joined(pieces: Sequence[Piece], origin: str) -> Transcript:
    """The transcript of a recording from all its pieces, with notes of what was left out."""
    words, loops = without_loops([word for piece in pieces for word in piece.words])
    dropped = [stretch for piece in pieces for stretch in piece.dropped]
    last = pieces[-1] if pieces else Piece(0, 0)
    notes = []
    if dropped:
        notes.append(f"{_listed(dropped)}: no words that can be trusted")
    if words and last.language and _seconds(dropped) > sum(word.end - word.start for word in words):
        notes.append(f"is it {language_name(last.language)}? most of it could not be recognised")
    if loops:
        notes.append(f"{_listed(loops)}: the same words over and over, taken once")
    return Transcript(sentences_of(words), last.language, origin, tuple(notes), last.sure)


def _seconds(stretches: Sequence[Stretch]) -> float:
    return sum(end - start for start, end in stretches)


def _listed(stretches: Sequence[Stretch]) -> str:
    """`2 stretches, 14 s in all (00:31-00:40, 01:02-01:07)`."""
    seconds = length(round(_seconds(stretches)))
    named = [f"{clock(start)}-{clock(end)}" for start, end in stretches[:LISTED]]
    more = ["..."] if len(stretches) > LISTED else []
    count = f"{len(stretches)} stretch{'es' if len(stretches) > 1 else ''}"
    return f"{count}, {seconds} in all ({', '.join(named + more)})"
