"""Sentences that hold the question's words, rare ones first (BM25): plain text retrieval."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechprune_cli.extras import need
from speechprune_cli.flow import TRANSCRIPT, PruningTask
from speechprune_cli.pruners._passages import keep_sentences
from speechprune_cli.pruners.base import WITH_CHOICES, Choice, Pruner
from speechprune_cli.transcripts.timing import NO_BLANKS

if TYPE_CHECKING:
    from torch import Tensor

STEMMED = {
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}
"""Languages that the packages have stop words and a stemmer of."""
UNSPACED = rf"{NO_BLANKS}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer too
WORD = rf"(?=\w)[{UNSPACED}]|[^\W{UNSPACED}]{{2,}}"
"""What the package takes for one, two letters or more; where no blanks are set, any character."""
DIGIT = rf"(?<![^\W{UNSPACED}])\d(?![^\W{UNSPACED}])"  # that stands alone


class BM25(Pruner):
    """What a search engine would keep of a transcript: the control for pruning that is retrieval.

    `bm25s` with its own settings (Lucene's formula, k1 = 1.5, b = 0.75), sentences as documents;
    words are stemmed, and stop words left out, in the language that was spoken, in English where
    nobody told. In languages that set no blanks every character is a word, and a digit that stands
    alone is one where the question holds such a digit. Sentences are kept whole until the budget is
    spent; of the last one, what holds most of the question's words.
    """

    reads_embeddings = False
    requires = frozenset({TRANSCRIPT})

    @property
    def query(self) -> str:
        """As `cue` does, which it is the control of."""
        return WITH_CHOICES

    def check(self) -> None:
        for package in ("bm25s", "Stemmer"):
            need(package, "bm25", "mini")

    def score_and_keep(self, task: PruningTask) -> Choice:
        said = [sentence.text for sentence in task.transcript.sentences]
        language = task.transcript.language or "en"
        worth = bm25_scores(said, task.asked, language)
        by_word = bm25_scores([word.text for word in task.transcript.words], task.asked, language)
        found = int((worth > 0).sum())
        reason = f"{task.keep} tokens; {found} of {len(said)} sentences hold words of the question"
        warning = (
            "" if found else "no sentence holds a word of the question: the first ones are kept"
        )
        return keep_sentences(task, worth, by_word[task.tokens.word_of], reason, warning)


def bm25_scores(said: Sequence[str], asked: str, language: str) -> Tensor:
    """Of each sentence, float32 `[sentences]`."""
    import bm25s
    import torch
    from Stemmer import Stemmer

    stem, digits = STEMMED.get(language), re.search(DIGIT, asked)
    documents, [query] = (
        bm25s.tokenize(
            texts,
            token_pattern=rf"{WORD}|\d" if digits else WORD,
            stopwords=stem or [],
            stemmer=Stemmer(stem) if stem else None,
            return_ids=False,
            show_progress=False,
        )
        for texts in (list(said), [asked])
    )
    if not query or not any(documents):
        return torch.zeros(len(said))
    index = bm25s.BM25()
    index.index(documents, show_progress=False)
    return torch.from_numpy(index.get_scores(query))
