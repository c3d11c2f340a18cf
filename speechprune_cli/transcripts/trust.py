"""What a recogniser made up: loops of the same words, and words where none were said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from speechprune_cli.flow import Word

Stretch = tuple[float, float]  # start and end in seconds
LONGEST_LOOP = 12  # words that are said over and over
LOOP_REPEATS = 5  # in a row, that nobody says


def without_loops(words: Sequence[Word]) -> tuple[list[Word], list[Stretch]]:
    """Words with each loop taken once, and where the rest of it was."""
    keys = [re.sub(r"\W", "", word.text).casefold() for word in words]
    kept: list[Word] = []
    cut: list[Stretch] = []
    at = 0
    while at < len(words):
        length, repeats = _loop(keys, at)
        kept += words[at : at + length]
        if repeats > 1:
            cut.append((words[at + length].start, words[at + length * repeats - 1].end))
        at += length * repeats
    return kept, cut


def _loop(keys: Sequence[str], at: int) -> tuple[int, int]:
    """How many words are said how many times from `at` on; one word once where there is no loop."""
    for length in range(1, LONGEST_LOOP + 1):
        repeats, pattern = 1, keys[at : at + length]
        while keys[at + length * repeats : at + length * (repeats + 1)] == pattern:
            repeats += 1
        if repeats >= LOOP_REPEATS and any(pattern):
            return length, repeats
    return 1, 1
