"""Words with times where only a whole line's times are known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from speechprune_cli.flow import Word

NO_BLANKS = "\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese, Japanese
OPENING = "「『（〈《【"
PIECE = re.compile(rf"\s*(?:[{OPENING}]*[{NO_BLANKS}][^\w\s{OPENING}]*|[^\s{NO_BLANKS}]+)")
"""A word with the blank before it, or a character of a language that sets no blanks."""
MILLISECONDS = 3  # digits that times are kept with


def spread(text: str, start: float, end: float) -> Iterator[Word]:
    """The words of `text`, which share the time from `start` to `end` by their characters."""
    pieces = PIECE.findall(text)
    total = sum(len(piece.strip()) for piece in pieces)
    done = 0
    for piece in pieces:
        begun, done = done, done + len(piece.strip())
        times = (start + (end - start) * share / total for share in (begun, done))
        yield Word(piece, *(round(time, MILLISECONDS) for time in times))


def in_order(words: Iterable[Word]) -> Iterator[Word]:
    """Each word begins no earlier than the one before it, and ends no earlier than it begins."""
    latest = 0.0
    for word in words:
        latest = max(latest, word.start)
        yield replace(word, start=latest, end=max(latest, word.end))


def follows(text: str) -> str:
    """`text` as what comes next, behind a blank where its language sets one."""
    return text if re.match(rf"\s|[{OPENING}]*[{NO_BLANKS}]", text) else f" {text}"
