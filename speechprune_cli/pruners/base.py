"""What every pruning method shares: timing, checks and the way results leave it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from annotated_types import Interval

from speechprune_cli.costs import PruningSize
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import Merge, PruningTask, Selection

if TYPE_CHECKING:
    from torch import Tensor

QUERIES = ALONE, WITH_CHOICES = ("question", "question+choices")
"""What the recording is matched against: the question, or its options too where it has some."""

Seed = Annotated[int, Interval(ge=0, lt=2**63)]  # setting of a method that draws at random


class Choice(NamedTuple):
    """What a method chose."""

    kept: Tensor  # int64 [k], sorted, unique
    scores: Tensor  # [N]: higher is rather kept, -inf where the method never looked
    reason: str  # one line for people
    merge: Merge | None = None  # how a merging method averages embeddings
    warning: str = ""  # one line for people where the choice should not be trusted


@dataclass(frozen=True)
class Pruner(ABC):
    """A pruning method. Its fields, if any, are its settings; their types say what may be set."""

    takes_amount: ClassVar[bool] = True  # False: the method settles it by itself (`retained`)
    reads_embeddings: ClassVar[bool] = True  # False: positions, or what else was encoded
    requires: ClassVar[frozenset[str]] = (
        frozenset()
    )  # what not all models give, as `flow.py` names it
    asks: ClassVar[bool] = True  # False: it keeps the same tokens whatever the question is
    merges: ClassVar[bool] = False  # True: it averages embeddings, and words are no longer words
    hears_all: ClassVar[bool] = True  # False: nothing beyond the model's own input length

    @property
    def query(self) -> str:
        """Which of `QUERIES` it takes where nobody asks for another."""
        return ALONE

    def check(self) -> None:  # noqa: B027 - most need nothing
        """Raise UsageError or ModelError for what it needs and this machine lacks.

        Asked before a model is loaded, and again before each choice: it takes no time.
        """

    @abstractmethod
    def score_and_keep(self, task: PruningTask) -> Choice:
        """Choose tokens, on any device."""

    def retained(self, size: PruningSize) -> int:
        """How many tokens it retains where k are asked for."""
        return size.kept

    def flops(self, decoder: Any, size: PruningSize) -> int | None:
        """Operations to choose, two a multiply-add (`costs.py`); None where nobody counted them."""
        return None if self.reads_embeddings else 0

    def working_bytes(self, decoder: Any, size: PruningSize) -> int:
        """What it holds while it chooses, about: one float32 copy of the tokens it compares."""
        return 4 * size.total * decoder.hidden_size if self.reads_embeddings else 0

    def select(self, task: PruningTask) -> Selection:
        """Choose tokens, timed, with results on the CPU.

        Raises UsageError for an impossible task, ModelError for embeddings that are no numbers, and
        what `check` raises.
        """
        self.check()
        if not len(task.text):
            raise UsageError("the question is empty")
        total = len(task.tokens)
        for name, count in (("tokens to keep", task.keep), ("phase-1 budget", task.phase1_budget)):
            if not 1 <= count <= total:
                raise UsageError(
                    f"{name}: {count} is not within the recording's 1 to {total} tokens"
                )
        started = time.perf_counter()
        choice = self.score_and_keep(task)
        return Selection(
            kept=choice.kept.cpu(),
            scores=choice.scores.float().cpu(),
            method=type(self).__module__.rpartition(".")[2],
            reason=choice.reason,
            phase1_budget=task.phase1_budget,
            seconds=time.perf_counter() - started,
            merge=choice.merge,
            warning=choice.warning,
            asks=self.asks,
        )


def membership(kept: Tensor, total: int) -> Tensor:
    """Scores `[total]` of methods that only look at positions: 1 where kept, else 0."""
    import torch

    return torch.zeros(total).index_fill_(0, kept, 1.0)


def evenly(count: int, total: int) -> Tensor:
    """The middle of each of `count` equal parts of `total`, int64 `[count]`."""
    import torch

    return (2 * torch.arange(count) + 1) * total // max(1, 2 * count)


def query_text(question: str, choices: Sequence[str], query: str) -> str:
    """What is matched against the recording, by one of `QUERIES`. Raises UsageError for others."""
    check_query(query)
    return "\n".join([question.strip(), *(choices if query == WITH_CHOICES else ())])


def check_query(query: str) -> None:
    """Raise UsageError for what nothing can be matched against."""
    if query not in QUERIES:
        raise UsageError(f"unknown query {query!r}: {' or '.join(QUERIES)}")
