"""Which of several options a free answer names, by letter or by text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from string import ascii_uppercase

NAMED = "\0"  # stands where an option's text stood in an answer that is searched for letters


def parse_letter(text: str, options: Sequence[str]) -> int | None:
    """Index of the one option that a free answer names, by letter or by full text; else None.

    A letter decides unless the texts named are only other options'. Where an option's text is
    itself a letter, as in a question about vitamins, the two readings have to agree.
    """
    texts, rest = _texts_named(text, options)
    letters = _letters_named(rest, len(options))
    texts |= {i for i, option in enumerate(options) if _plain(option) == _plain(text)}
    named = letters & texts if letters and texts else letters or texts
    return named.pop() if len(named) == 1 else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .")


def _texts_named(text: str, options: Sequence[str]) -> tuple[set[int], str]:
    """Options whose text occurs as whole words, and `text` with `NAMED` in their places.

    Longer options first, so that `New York City` does not name `New York` too. Single letters are
    left alone, since they may be an option's letter.
    """
    named = set()
    for index in sorted(range(len(options)), key=lambda i: -len(options[i])):
        words = [re.escape(word) for word in _plain(options[index]).split()]
        if len("".join(words)) > 1:
            pattern = r"(?<!\w)(?<!\d[.,])" + r"\s+".join(words) + r"(?!\w|[.,]\d)"
            text, found = re.subn(pattern, NAMED, text, flags=re.IGNORECASE)
            if found:
                named.add(index)
    return named, text


def _letters_named(text: str, count: int) -> set[int]:
    """Indices of all letters named in the surest of the ways in which any is."""
    for way in _ways(min(count, len(ascii_uppercase))):
        letters = {letter.upper() for letter in way.findall(text)}
        if letters:
            return {ascii_uppercase.index(letter) for letter in letters}
    return set()


@cache
def _ways(count: int) -> tuple[re.Pattern[str], ...]:
    """Ways to name one of `count` letters, surest first, each with the letter as its group.

    `B.` alone or before its text; `the answer is B`; `(b)` or `B.` anywhere; B as a word. A, which
    may be an article, and I are words only before a mark, the end, or a few words.
    """
    if not count:
        return ()
    upper = ascii_uppercase[:count]
    either = f"[{upper}{upper.lower()}]"
    sentence = r"(?=\s*(?:$|[^\w\s\0])|\s+(?:or|and|is|was|because|since|as)\b)"
    another = rf"(?!\W*(?:or\b|and\b)?\W*[{upper}]\b)"
    begins = r"(?<!\w)(?<!\w[.'’])"
    correct = r"(?i:\banswer|\bcorrect (?:option|choice))"
    leading = r"(?:\s*(?i:is|would be|should be|must be|option|choice|letter)\b)*"
    ways = (
        rf"\A[^\w\0]*({either})(?:[^\w\s\0]\W*|\s*)\Z",
        rf"{correct}{leading}[^\w\0]*((?:[{upper}]|{either}(?=\W*$|[).\]*]))\b){another}",
        rf"(?:\A|{begins}(?=[(\[]|[{upper}]))[(\[]?({either})(?:[).:\]](?!\w))",
        rf"{begins}(?:(?i:(?<=option )|(?<=choice ))|(?![AI]\b(?!{sentence})))([{upper}])\b",
    )
    return tuple(re.compile(way) for way in ways)
