"""Passages of text, kept whole: a reader makes nothing of every third word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import TRANSCRIPT, PruningTask
from speechprune_cli.pruners.base import Choice

if TYPE_CHECKING:
    from torch import Tensor


def keep_whole(
    worth: Tensor, passages: Tensor, words: Tensor, matches: Tensor, keep: int
) -> Tensor:
    """Which tokens are kept, bool `[N]`: exactly `keep`, of the passages that are worth most.

    `worth` `[passages]`; `passages` and `words` int64 `[N]` number each token's passage and word,
    from 0 on. Of a passage that does not fit, the words in a row stay whose `matches` `[N]` add up
    to most; what is left goes to the next best.
    """
    import torch

    taken = torch.zeros(len(passages), dtype=torch.bool)
    sizes = passages.bincount(minlength=len(worth))
    starts = sizes.cumsum(0) - sizes
    for best in worth.argsort(descending=True, stable=True).tolist():
        start, size = int(starts[best]), int(sizes[best])
        first, last = 0, size
        if size > keep:
            inside = slice(start, start + size)
            first, last = best_stretch(matches[inside], words[inside], keep)
        taken[start + first : start + last] = True
        keep -= last - first
        if not keep:
            break
    taken[(~taken).nonzero().flatten()[:keep]] = True
    return taken


def best_stretch(matches: Tensor, words: Tensor, most: int) -> tuple[int, int]:
    """Begin and end of whole `words` `[n]` in a row, `most` tokens or fewer, that match best.

    `matches` `[n]` of tokens are added up; of stretches that match alike the longest counts, then
    the first. Where no word fits, begin and end are the same.
    """
    import torch

    borders = torch.cat([words.new_tensor([0]), words.diff().nonzero().flatten() + 1])
    borders = torch.cat([borders, words.new_tensor([len(words)])])
    ends = borders[torch.searchsorted(borders, borders + most, right=True) - 1]
    before = torch.cat([matches.new_zeros(1), matches.cumsum(0)])
    found = before[ends] - before[borders]
    alike = (found == found.max()).nonzero().flatten()
    best = alike[(ends - borders)[alike].argmax()]
    return int(borders[best]), int(ends[best])


def keep_sentences(
    task: PruningTask, worth: Tensor, matches: Tensor, reason: str, warning: str = ""
) -> Choice:
    """The best of a transcript's sentences, by `worth` `[sentences]`, kept whole.

    `matches` `[N]` say what to keep of the one that does not fit.
    """
    tokens = task.tokens
    if tokens.sentences is None:
        raise UsageError(f"this model does not give {TRANSCRIPT}")
    sentences = tokens.sentences.cpu()
    taken = keep_whole(worth, sentences, tokens.word_of, matches, task.keep)
    return Choice(taken.nonzero().flatten(), worth[sentences], reason, warning=warning)
