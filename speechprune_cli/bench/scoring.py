"""What an open answer is worth, by its words, and the orders in which options are shown."""

from __future__ import annotations

import unicodedata
from collections import Counter
from string import punctuation

ARTICLES = frozenset(("a", "an", "the"))


def normalise_answer(text: str) -> str:
    """As SQuAD compares answers: lower case, no punctuation, no articles, single blanks.

    A text of nothing but articles or punctuation keeps them, so that it does not equal silence.
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    words = "".join(letter for letter in lowered if not _is_punctuation(letter)).split()
    kept = [word for word in words if word not in ARTICLES]
    return " ".join(kept or words or lowered.split())


def _is_punctuation(letter: str) -> bool:
    return letter in punctuation or unicodedata.category(letter).startswith("P")


def exact_match(text: str, answer: str) -> bool:
    """Whether two answers are equal once normalised."""
    return normalise_answer(text) == normalise_answer(answer)


def token_f1(text: str, answer: str) -> float:
    """Harmonic mean of the shares of words that two normalised answers have in common."""
    given, wanted = normalise_answer(text).split(), normalise_answer(answer).split()
    if not given or not wanted:
        return float(given == wanted)
    common = (Counter(given) & Counter(wanted)).total()
    return 2 * common / (len(given) + len(wanted))


def rotations(count: int) -> list[tuple[int, ...]]:
    """All rotations of `count` options, unrotated first; an open question has one, which is empty.

    Over them every option stands in every place once.
    """
    places = range(count)
    return [tuple((place + turn) % count for place in places) for turn in range(max(count, 1))]
