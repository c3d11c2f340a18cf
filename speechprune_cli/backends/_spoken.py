"""A transcript as tokens of a text model, each with its time and the sentence it stands in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from speechprune_cli.flow import Sentence, Transcript, Word

SHORTEST = 0.01  # seconds of a token, as recognisers give some words no length at all


@dataclass
class Spoken:
    """N tokens in the order in which they were said."""

    ids: list[int] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)  # start and end, in seconds
    sentences: list[int] = field(default_factory=list)  # number of each token's sentence
    words: list[int] = field(default_factory=list)  # and of the word that it begins in


def spoken_tokens(transcript: Transcript, encode: Callable[[str], Any], seconds: float) -> Spoken:
    """Tokens of a whole transcript, `encode` giving `ids` and character `offsets` of a text.

    A token begins with the word that its first character is of, or as far into that word as the
    character stands, and ends likewise; no token begins before the one before it.
    """
    words, numbers, borders = [], [], [0]
    for number, sentence in enumerate(transcript.sentences):
        for word in sentence.words:
            words.append(word)
            numbers.append(number)
            borders.append(borders[-1] + len(word.text))
    if not words:
        return Spoken()
    encoded = encode("".join(word.text for word in words))
    spoken, at, latest = Spoken(), 0, 0.0
    for token, (first, last) in zip(encoded.ids, encoded.offsets, strict=True):
        while at + 1 < len(words) and borders[at + 1] <= first:
            at += 1
        end = at
        while end + 1 < len(words) and borders[end + 1] < last:
            end += 1
        start = _moment(words[at], first - borders[at])
        latest = min(max(start, latest), max(seconds - SHORTEST, 0.0))
        until = min(max(_moment(words[end], last - borders[end]), latest + SHORTEST), seconds)
        spoken.ids.append(token)
        spoken.times.append((latest, until))
        spoken.sentences.append(numbers[at])
        spoken.words.append(at)
    return spoken


def words_in_a_row(times: Sequence[tuple[float, float]], length: int) -> Transcript:
    """A word that means nothing for each start and end, `length` of them to a sentence."""
    words = [Word(f" word{number}", *time) for number, time in enumerate(times)]
    starts = range(0, len(words), length)
    sentences = tuple(Sentence(tuple(words[start : start + length])) for start in starts)
    return Transcript(sentences, language=None, origin="nobody")


def _moment(word: Any, character: int) -> float:
    """When a character of a word is said."""
    share = min(max(character / max(len(word.text), 1), 0.0), 1.0)
    return word.start + share * (word.end - word.start)
