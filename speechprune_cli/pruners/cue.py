"""Whole passages around the question's words, where these stand out; the rest evenly (ours).

What the question asks for stands beside its own words. A word that matches everywhere says
nothing, a word that matches one place says where to look:

1. The recording is cut into segments: sentences where a transcript has them, else at its quietest
   moments, ten seconds apart at most.
2. Cosines of audio tokens with those of the question and its options, both centred: the recording's
   mean is taken from the one, the vocabulary's from the other, as all cosines share those
   directions. Two neighbouring tokens of the question heard in a row are a cue of their own.
3. A segment matches a cue as well as its best token does. Matches are standardised over the
   segments, and a cue weighs as much as the square of its best match: how far it stands out.
4. A segment is worth the cues it holds and, in part, those that its neighbours hold.
5. Sentences are kept whole, the best first, until the budget is spent; of the last one the words
   that match best. Of sound, what is covered already counts for less, so that a question of two
   parts gets both; a passage that does not fit is thinned, as neighbouring tokens say the same; and
   what is left of the budget is spread evenly, for context.
6. Where nothing stands out by more than chance would have it, there is nothing to find, as in "what
   is it about?": the less evidence, the more is taken from all over the recording. Of sentences,
   however many there are, cues are enough that add up to one which is heard once.

One product of `[N, D]` and `[D, L]`; memory for `[N, L]` and `[segments, cues]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from speechprune_cli.costs import QUESTION_TOKENS, PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._passages import keep_sentences
from speechprune_cli.pruners._segments import quiet_segments
from speechprune_cli.pruners._similarity import TOKENS_PER_BLOCK, check_finite
from speechprune_cli.pruners.base import ALONE, WITH_CHOICES, Choice, Pruner, evenly

if TYPE_CHECKING:
    from torch import Tensor

Share = Annotated[float, Interval(ge=0, le=1)]
Seconds = Annotated[float, Interval(gt=0, lt=1e6)]

DECIMALS = 6  # of cosines, so that equal tokens match equally in whatever order a device sums
PHRASE_SECONDS = 0.4  # two question tokens heard within this time are heard in a row
ENOUGH_EVIDENCE = 1.5  # deviations beyond chance, summed over cues, that give passages everything
DIVERSITY = 0.5  # by how much a cue of sound counts for less once it is taken
LEAST = 0.3  # of the first passage's worth, below which no sound is taken any more
FEWEST = 10  # segments, as of fewer hardly any can stand out beyond chance
LITTLE_EVIDENCE = 1.0
"""80 s of audio tokens that are aligned to no words stay below this in nine cases of ten, in
clauses of 4.4 s; the more there is to choose from, the further chance alone gets."""
DOUBTFUL = 2.0  # evidence of sentences, below which what is said often holds no answer


@dataclass(frozen=True)
class Cue(Pruner):
    """A model's preset may have settings of its own: `nano`, which hears badly, does."""

    choices: bool = True  # whether the options of a question are matched too
    longest: Seconds = 10.0  # of sound between two borders; about what is said in one breath
    reach: Share = 0.25  # of a segment's cues, for the next one; half of it for the one before

    @property
    def query(self) -> str:
        return WITH_CHOICES if self.choices else ALONE

    def score_and_keep(self, task: PruningTask) -> Choice:
        if task.tokens.sentences is not None:
            return self._sentences(task, task.tokens.sentences.cpu())
        loudness, per_second = task.tokens.loudness.cpu(), task.tokens.per_second
        longest = min(self.longest, task.tokens.seconds / FEWEST)
        return self._passages(task, quiet_segments(loudness, per_second, longest))

    def _sentences(self, task: PruningTask, sentences: Tensor) -> Choice:
        """The best of a transcript's, whole."""
        cues = Cues.of(task, sentences)
        worth = self.shared(cues.weighed(cues.matches)).sum(1)
        evidence = self._evidence(cues) / max(1e-9, cues.heard_once - cues.chance)
        reason = (
            f"{len(sentences)} -> {task.keep} tokens, in the sentences that hold most of the "
            f"question's words (evidence {evidence:.1f})"
        )
        focus = 1.0 if len(worth) < FEWEST else min(1.0, evidence)
        unsure = len(worth) >= FEWEST and evidence < DOUBTFUL and task.keep < len(sentences)
        warning = (
            "few words of the question stand out in what is said: it asks about the whole, or is "
            "not answered there"
        )
        matches = cues.weighed(cues.cosines).sum(1)
        return keep_sentences(task, worth, matches, reason, warning if unsure else "", focus)

    def _passages(self, task: PruningTask, segments: Tensor) -> Choice:
        """The best of what is heard, and the rest evenly."""
        cues = Cues.of(task, segments)
        held, evidence = self.shared(cues.weighed(cues.matches)), self._evidence(cues)
        taken = self._take(held, segments, round(min(1.0, evidence / ENOUGH_EVIDENCE) * task.keep))
        found = int(taken.sum())
        kept, rest = spread(taken, task.keep - found), task.keep - found
        reason = (
            f"{len(segments)} -> {task.keep} tokens: {found} in passages around the question's "
            f"words, {rest} evenly over the rest (evidence {evidence:.1f})"
        )
        unsure = evidence < LITTLE_EVIDENCE and found < task.keep < len(segments)
        warning = (
            f"little in the recording stands out for this question, so {rest} of {task.keep} "
            "tokens are spread evenly: it asks about the whole, or this model's audio tokens do "
            "not resemble its words"
        )
        return Choice(kept, held.sum(1)[segments], reason, warning=warning if unsure else "")

    def _evidence(self, cues: Cues) -> float:
        """By how many standard deviations the question's own cues exceed what chance would reach.

        Summed over the cues of the best segment and its neighbours. Options, of which most are
        wrong, prove nothing.
        """
        beyond = (cues.best - cues.chance).clamp_min(0) * cues.asked
        present = cues.standing(cues.matches) / cues.best
        return float(self.shared(present * beyond).sum(1).max())

    def shared(self, held: Tensor) -> Tensor:
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
            worth = (held - DIVERSITY * held.minimum(covered)).sum(1)
            best = int(worth.masked_fill(closed, -math.inf).argmax())
            first = first or float(worth[best])
            if worth[best] < LEAST * first:
                break
            size = int(sizes[best])
            fitting = min(budget, size)
            taken[starts[best] + evenly(fitting, size)] = True
            budget -= fitting
            covered = covered.maximum(held[best])
            closed[best] = True
        return taken

    def flops(self, decoder: Any, size: PruningSize) -> int:
        """Counted for a question without options."""
        return 2 * size.total * (2 + QUESTION_TOKENS) * decoder.hidden_size


@dataclass(frozen=True)
class Cues:
    """Where a recording matches the tokens of a question, and pairs of them heard in a row."""

    cosines: Tensor  # float64 [N, cues]
    matches: Tensor  # [segments, cues]: of each segment's best token
    asked: Tensor  # bool [cues]: of the question itself, not of its options

    @classmethod
    def of(cls, task: PruningTask, segments: Tensor) -> Cues:
        """`segments` int64 `[N]` number each token's."""
        import torch

        cosines = centred_cosines(task)
        asked = torch.arange(len(task.text)) < task.question_length
        if len(task.text) > 1:
            reach = max(1, round(PHRASE_SECONDS * task.tokens.per_second))
            cosines = torch.cat([cosines, in_a_row(cosines, reach)], dim=1)
            asked = torch.cat([asked, asked[1:]])
        matches = torch.zeros(int(segments[-1]) + 1, cosines.shape[1], dtype=torch.float64)
        index = segments[:, None].expand_as(cosines)
        matches.scatter_reduce_(0, index, cosines, "amax", include_self=False)
        return cls(cosines, matches, asked)

    def standing(self, values: Tensor) -> Tensor:
        """Standard deviations by which `values` `[n, cues]` are above the mean segment's match."""
        mean = self.matches.mean(0)
        deviation = (self.matches - mean).square().mean(0).sqrt().clamp_min(1e-9)
        return ((values - mean) / deviation).clamp_min(0)

    @cached_property
    def best(self) -> Tensor:
        """`[cues]`: how far the best segment stands out."""
        return self.standing(self.matches).amax(0).clamp_min(1e-9)

    @property
    def chance(self) -> float:
        """The maximum of as many normal draws as there are segments, about."""
        return math.sqrt(2 * math.log(max(2, len(self.matches))))

    @property
    def heard_once(self) -> float:
        """How far a cue stands out that one segment holds, and all others equally little."""
        return math.sqrt(max(1, len(self.matches) - 1))

    def weighed(self, values: Tensor) -> Tensor:
        """`standing` `[n, cues]`, each cue times its weight."""
        return self.standing(values) * self.best.square()


def centred_cosines(task: PruningTask) -> Tensor:
    """Cosines of audio and question tokens, float64 `[N, L]` on the CPU."""
    import torch
    from torch.nn.functional import normalize

    embeds = task.tokens.embeds
    text = task.text.to(embeds.device).float()
    middle = embeds.mean(0, dtype=torch.float32)
    directions = normalize(text - task.vocabulary_mean.to(text), dim=-1).T
    centred = (block.float() - middle for block in embeds.split(TOKENS_PER_BLOCK))
    cosines = torch.cat([normalize(block, dim=-1) @ directions for block in centred])
    check_finite(cosines)
    return cosines.cpu().double().round(decimals=DECIMALS)


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
