"""Passages of text, kept whole: a reader makes nothing of every third word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import TRANSCRIPT, PruningTask
from speechprune_cli.pruners.base import Choice

if TYPE_CHECKING:
    from torch import Tensor

DECIMALS = 6  # of matches, so that equal stretches tie in whatever order they are summed


def keep_whole(
    order: Tensor, passages: Tensor, words: Tensor, matches: Tensor, keep: int
) -> Tensor:
    """Which tokens are kept, bool `[N]`: exactly `keep`, of the first passages in `order`.

    `passages` and `words` int64 `[N]` number each token's passage and word, from 0 on. Of a passage
    that does not fit, the words in a row stay whose `matches` `[N]` add up to most; what is left
    goes to the next one, and what no word fits into to the first passage with room.
    """
    import torch

    taken = torch.zeros(len(passages), dtype=torch.bool)
    sizes = passages.bincount(minlength=len(order))
    starts = sizes.cumsum(0) - sizes
    for number in order.tolist():
        start, size = int(starts[number]), int(sizes[number])
        first, last = 0, size
        if size > keep:
            inside = slice(start, start + size)
            first, last = best_stretch(matches[inside], words[inside], keep)
        taken[start + first : start + last] = True
        keep -= last - first
        if not keep:
            break
    left = (~taken).nonzero().flatten()
    rank = torch.empty_like(order).index_put_((order,), torch.arange(len(order)))
    taken[left[rank[passages[left]].argsort(stable=True)][:keep]] = True
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
    before = torch.cat([torch.zeros(1, dtype=torch.float64), matches.double().cumsum(0)])
    found = (before[ends] - before[borders]).round(decimals=DECIMALS)
    alike = (found == found.max()).nonzero().flatten()
    best = alike[(ends - borders)[alike].argmax()]
    return int(borders[best]), int(ends[best])


def evenly_behind(order: Tensor, sizes: Tensor, budget: float) -> Tensor:
    """`order` as far as its passages, of `sizes` `[passages]`, fit into `budget`; at least one.

    Behind them come all others: those at the ends of the recording, in its middle, in the middle
    of its halves, and so on.
    """
    import torch

    best = order[: max(1, int((sizes[order].cumsum(0) <= budget).sum()))].tolist()
    last, parts, spread = len(order) - 1, 1, [0, len(order) - 1]
    while parts < last:
        parts *= 2
        spread += [round(part * last / parts) for part in range(1, parts, 2)]
    return torch.tensor(list(dict.fromkeys([*best, *spread, *range(last)])))


def keep_sentences(
    task: PruningTask,
    worth: Tensor,
    matches: Tensor,
    reason: str,
    warning: str = "",
    focus: float = 1.0,
) -> Choice:
    """The best of a transcript's sentences, by `worth` `[sentences]`, kept whole.

    `matches` `[N]` say what to keep of the one that does not fit. Only `focus` of the budget goes
    to the best, the rest to sentences all over the recording.
    """
    import torch

    tokens = task.tokens
    if tokens.sentences is None:
        raise UsageError(f"this model does not give {TRANSCRIPT}")
    sentences = tokens.sentences.cpu()
    order = worth.argsort(descending=True, stable=True)
    if focus < 1:
        sizes = torch.bincount(sentences, minlength=len(worth))
        order = evenly_behind(order, sizes, focus * task.keep)
    taken = keep_whole(order, sentences, tokens.word_of, matches, task.keep)
    return Choice(taken.nonzero().flatten(), worth[sentences], reason, warning=warning)
