"""Whole passages around the question's words, where these stand out; the rest evenly (ours).

What the question asks for stands beside its own words. A word that matches everywhere says
nothing, a word that matches one place says where to look:

1. The recording is cut into segments: sentences where a transcript has them, else at its quietest
   moments.
2. Cosines of audio tokens and question tokens, both centred: the recording's mean is taken from
   the one, the vocabulary's from the other, as all cosines share those directions. Two
   neighbouring question tokens heard in a row are a cue of their own.
3. A segment matches a cue as well as its best token does. Matches are standardised over the
   segments, and a cue weighs as much as the square of its best match: how far it stands out.
4. Segments are taken greedily by the cues they hold and, in part, those that their neighbours hold,
   until the budget is spent or a segment is worth little beside the first: whole, or thinned where
   it does not fit. What is covered already counts for less, so that a question of two parts gets
   both. Sentences are taken by what they hold alone, until the budget is spent, and the last one is
   cut: a reader makes nothing of every third word.
5. Of sound, the rest of the budget is spread evenly over what is left, for context. Where no
   segment stands out by more than chance would have it, there is nothing to find, as in "what is it
   about?": the less evidence, the more is spread evenly.

One product of `[N, D]` and `[D, L]`; memory for `[N, L]` and `[segments, cues]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Interval

from speechprune_cli.costs import QUESTION_TOKENS, PruningSize
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import AudioTokens, PruningTask
from speechprune_cli.pruners._passages import keep_whole
from speechprune_cli.pruners._segments import equal_segments, quiet_segments
from speechprune_cli.pruners._similarity import TOKENS_PER_BLOCK, check_finite
from speechprune_cli.pruners.base import Choice, Pruner, evenly

if TYPE_CHECKING:
    from torch import Tensor

Segments = Literal["auto", "sentences", "quiet", "seconds", "tokens"]
Match = Literal["best", "mean"]
Share = Annotated[float, Interval(ge=0, le=1)]

DECIMALS = 6  # of cosines, so that equal tokens match equally in whatever order a device sums
PHRASE_SECONDS = 0.4  # two question tokens heard within this time are heard in a row
ENOUGH_EVIDENCE = 1.5  # deviations beyond chance, summed over cues, that give passages everything
LITTLE_EVIDENCE = 1.0
"""Audio tokens turned at random, aligned to no words, stay below this in nine cases of ten."""


@dataclass(frozen=True)
class Cue(Pruner):
    """Settings other than the defaults are there to be ablated."""

    segments: Segments = "auto"
    """`sentences`, else borders in silence (`quiet`); every second; or every token by itself."""
    centre: bool = True  # subtract the recording's and the vocabulary's mean before the cosine
    match: Match = "best"  # of a segment's tokens, the best match of a cue, or the mean
    phrases: bool = True  # neighbouring question tokens heard in a row are cues too
    standardise: bool = True  # divide matches by their standard deviation over the segments
    prominence: bool = True  # weigh cues by how far they stand out
    reach: Share = 0.25  # of a segment's cues, for the next one; half of it for the one before
    diversity: Share = 0.5
    """By how much a cue counts for less once a segment with it is taken; sentences leave it out."""
    least: Share = 0.3  # of the first segment's worth, below which none is taken any more
    context: Share = 0.0  # of the budget, the least that is spread evenly over what passages leave

    def score_and_keep(self, task: PruningTask) -> Choice:
        segments, spoken = self._segments(task.tokens)
        matches = self._matches(task, segments)
        held, evidence = self._cues(matches)
        focus = 1.0 if spoken else min(1.0, evidence / ENOUGH_EVIDENCE)
        budget = round(focus * (1 - self.context) * task.keep)
        if spoken:
            taken = keep_whole(held.sum(1), segments, budget, task.tokens.words)
        else:
            taken = self._take(held, segments, budget)
        found = int(taken.sum())
        kept = spread(taken, task.keep - found)
        reason = (
            f"{len(segments)} -> {task.keep} tokens: {found} in passages around the question's "
            f"words, {task.keep - found} evenly over the rest (evidence {evidence:.1f})"
        )
        unsure = evidence < LITTLE_EVIDENCE and found < task.keep < len(segments)
        warning = (
            f"little in the recording stands out for this question, so {task.keep - found} of "
            f"{task.keep} tokens are spread evenly: it asks about the whole, or this model's audio "
            "tokens do not resemble its words"
        )
        return Choice(kept, held.sum(1)[segments], reason, warning=warning if unsure else "")

    def _segments(self, tokens: AudioTokens) -> tuple[Tensor, bool]:
        """Number of each token's segment `[N]`, and whether these are sentences."""
        if self.segments in ("auto", "sentences") and tokens.sentences is not None:
            return tokens.sentences.cpu(), True
        if self.segments == "sentences":
            raise UsageError("cue: segments=sentences: this model writes no sentences down")
        if self.segments in ("auto", "quiet"):
            return quiet_segments(tokens.loudness.cpu(), tokens.per_second), False
        every = tokens.per_second if self.segments == "seconds" else 1.0
        return equal_segments(len(tokens), every), False

    def _matches(self, task: PruningTask, segments: Tensor) -> Tensor:
        """How well each segment matches each cue, float64 `[segments, cues]`."""
        import torch

        cosines = self._cosines(task)
        if self.phrases and len(task.text) > 1:
            reach = max(1, round(PHRASE_SECONDS * task.tokens.per_second))
            cosines = torch.cat([cosines, in_a_row(cosines, reach)], dim=1)
        shape = (int(segments[-1]) + 1, cosines.shape[1])
        how: Literal["amax", "mean"] = "amax" if self.match == "best" else "mean"
        matches = torch.zeros(shape, dtype=torch.float64)
        index = segments[:, None].expand_as(cosines)
        return matches.scatter_reduce_(0, index, cosines, how, include_self=False)

    def _cosines(self, task: PruningTask) -> Tensor:
        """Cosines of audio and question tokens, float64 `[N, L]` on the CPU."""
        import torch
        from torch.nn.functional import normalize

        embeds = task.tokens.embeds
        text = task.text.to(embeds.device).float()
        middle = torch.zeros(embeds.shape[1], device=embeds.device)
        if self.centre:
            text = text - task.vocabulary_mean.to(text)
            middle = embeds.mean(0, dtype=torch.float32)
        directions = normalize(text, dim=-1).T
        centred = (block.float() - middle for block in embeds.split(TOKENS_PER_BLOCK))
        cosines = torch.cat([normalize(block, dim=-1) @ directions for block in centred])
        check_finite(cosines)
        return cosines.cpu().double().round(decimals=DECIMALS)

    def _cues(self, matches: Tensor) -> tuple[Tensor, float]:
        """What each segment holds of each cue `[segments, cues]`, and the evidence for the best.

        Evidence: by how many standard deviations cues exceed the maximum that as many normal
        draws would reach, summed over the cues of the best segment and its neighbours.
        """
        above = matches - matches.mean(0)
        deviation = above.square().mean(0).sqrt()
        standard = above / deviation.clamp_min(1e-9)
        best = standard.amax(0).clamp_min(1e-9)
        beyond = (best - math.sqrt(2 * math.log(max(2, len(matches))))).clamp_min(0)
        present = (standard if self.standardise else above).clamp_min(0)
        weights = best.square() if self.prominence else 1.0
        evidence = self._shared(standard.clamp_min(0) / best * beyond).sum(1).max()
        return self._shared(present * weights), float(evidence)

    def _shared(self, held: Tensor) -> Tensor:
        """`held` `[segments, cues]` with a share of what the neighbours hold."""
        shared = held.clone()
        shared[1:] += self.reach * held[:-1]
        shared[:-1] += self.reach / 2 * held[1:]
        return shared

    def _take(self, held: Tensor, segments: Tensor, budget: int) -> Tensor:
        """Whether each token is kept `[N]`: `budget` tokens of the best segments."""
        import torch

        taken = torch.zeros(len(segments), dtype=torch.bool)
        sizes = segments.bincount()
        starts = sizes.cumsum(0) - sizes
        closed = torch.zeros(len(held), dtype=torch.bool)
        covered = torch.zeros(held.shape[1], dtype=held.dtype)
        first = 0.0
        while budget > 0:
            worth = (held - self.diversity * held.minimum(covered)).sum(1)
            best = int(worth.masked_fill(closed, -math.inf).argmax())
            first = first or float(worth[best])
            if worth[best] < self.least * first:
                break
            size = int(sizes[best])
            fitting = min(budget, size)
            taken[starts[best] + evenly(fitting, size)] = True
            budget -= fitting
            covered = covered.maximum(held[best])
            closed[best] = True
        return taken

    def flops(self, decoder: Any, size: PruningSize) -> int:
        return 2 * size.total * (2 + QUESTION_TOKENS) * decoder.hidden_size


def in_a_row(cosines: Tensor, reach: int) -> Tensor:
    """`[N, L - 1]`: `cosines` `[N, L]` plus the next column's best among the `reach` rows after."""
    from torch.nn.functional import max_pool1d, pad

    following = pad(cosines[:, 1:].T, (0, reach), value=-1.0)
    best = max_pool1d(following[None], reach, stride=1)[0, :, 1 : len(cosines) + 1]
    return cosines[:, :-1] + best.T


def spread(taken: Tensor, count: int) -> Tensor:
    """Sorted indices of `taken` `[N]` and of `count` others, evenly spaced among these."""
    import torch

    others = (~taken).nonzero().flatten()
    return torch.cat([taken.nonzero().flatten(), others[evenly(count, len(others))]]).sort().values
