"""Words in the sentences that they make."""

from __future__ import annotations

from collections.abc import Iterable

from speechprune_cli.flow import Sentence, Word

ENDS = ".?!…。？！"
CLOSING = "\"'”’»)]}」』"
LONGEST_WORDS = 60  # of a sentence: recognisers that set no full stops would never end one
ABBREVIATIONS = ("Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "St.", "vs.", "etc.", "e.g.", "i.e.")
PAUSE_SECONDS = 2.0  # that ends a sentence by itself


def sentences_of(words: Iterable[Word]) -> tuple[Sentence, ...]:
    """Words in order, cut behind full stops, before long pauses, and where they never end."""
    found: list[Sentence] = []
    open_words: list[Word] = []
    for word in words:
        if open_words and _ends(open_words, word):
            found.append(Sentence(tuple(open_words)))
            open_words = []
        open_words.append(word)
    if open_words:
        found.append(Sentence(tuple(open_words)))
    return tuple(found)


def _ends(open_words: list[Word], following: Word) -> bool:
    last = open_words[-1]
    if len(open_words) >= LONGEST_WORDS or following.start - last.end >= PAUSE_SECONDS:
        return True
    bare = last.text.strip().rstrip(CLOSING)
    return bare.endswith(tuple(ENDS)) and not _abbreviates(bare, following)


def _abbreviates(bare: str, following: Word) -> bool:
    """`Dr.`, `J.` and the like end no sentence; `No.` does, unless a number follows."""
    if bare == "No.":
        return following.text.strip()[:1].isdigit()
    return bare.endswith(".") and (bare in ABBREVIATIONS or (len(bare) == 2 and bare[0].isupper()))
