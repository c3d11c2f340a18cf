"""Passages of text, kept whole: a reader makes nothing of every third word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import TRANSCRIPT, PruningTask
from speechprune_cli.pruners.base import Choice

if TYPE_CHECKING:
    from torch import Tensor


def keep_whole(worth: Tensor, passages: Tensor, keep: int, words: Tensor | None = None) -> Tensor:
    """Which tokens are kept, bool `[N]`: exactly `keep`, of the passages that are worth most.

    `worth` `[passages]`; `passages` and `words` int64 `[N]` number each token's passage and word,
    from 0 on; without words every token is one. A passage that does not fit is cut behind the last
    word that does; what is left goes to the beginnings of the next best.
    """
    import torch

    total = len(passages)
    words = torch.arange(total) if words is None else words
    taken = torch.zeros(total, dtype=torch.bool)
    inner = words.diff().nonzero().flatten() + 1
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), inner, torch.tensor([total])])
    sizes = passages.bincount(minlength=len(worth))
    starts = sizes.cumsum(0) - sizes
    for best in worth.argsort(descending=True, stable=True).tolist():
        start, fitting = int(starts[best]), min(keep, int(sizes[best]))
        end = int(ends[torch.searchsorted(ends, start + fitting, right=True) - 1])
        taken[start:end] = True
        keep -= max(0, end - start)
        if not keep:
            break
    taken[(~taken).nonzero().flatten()[:keep]] = True
    return taken


def keep_sentences(task: PruningTask, worth: Tensor, reason: str, warning: str = "") -> Choice:
    """The best of a transcript's sentences, by `worth` `[sentences]`, kept whole."""
    tokens = task.tokens
    if tokens.sentences is None:
        raise UsageError(f"this model does not give {TRANSCRIPT}")
    sentences = tokens.sentences.cpu()
    taken = keep_whole(worth, sentences, task.keep, tokens.words)
    return Choice(taken.nonzero().flatten(), worth[sentences], reason, warning=warning)
