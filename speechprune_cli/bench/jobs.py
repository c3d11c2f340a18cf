"""What is still to be asked, recording by recording, and whoever answers it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from speechprune_cli.audio import load_audio
from speechprune_cli.bench.conditions import Condition
from speechprune_cli.bench.line import Line
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.store import Run
from speechprune_cli.errors import ModelError, SpeechPruneError
from speechprune_cli.flow import Audio

T = TypeVar("T")


@dataclass(frozen=True)
class RecordingJob:
    """A decoded recording, or why there is none, and what is still to be asked about it."""

    audio: Audio | str
    samples: tuple[Sample, ...]
    todo: frozenset[tuple[str, str]]  # sample and condition

    def missing(self, condition: Condition) -> list[Sample]:
        """Samples that are still to be asked under a condition."""
        return [each for each in self.samples if (each.id, condition.name) in self.todo]

    def failures(self, conditions: Iterable[Condition], reason: str) -> Iterator[Line]:
        """Lines that say why all of it could not be asked."""
        for condition in conditions:
            for sample in self.missing(condition):
                yield Line.failed(sample, condition, reason)


Job = tuple[RecordingJob, ...]  # recordings whose prompts are read together


class Workers(Protocol):
    """Whoever answers jobs."""

    def answer(self, jobs: Iterable[Job]) -> Generator[Line]:
        """Lines of all jobs, in any order, as they are made; closed, it leaves the rest."""

    def doubts(self, samples: Sequence[Sample]) -> Sequence[str]:
        """What cannot be asked of them, or not in full, a line for each kind."""

    def expected_seconds(self, todo: Sequence[tuple[Sample, Condition]]) -> float | None:
        """How long it will take to answer, about; None where that is not known."""


def answer_missing(
    run: Run,
    plan: Plan,
    samples: Sequence[Sample],
    workers: Workers,
    on_line: Callable[[Line], None],
) -> None:
    """Ask what has no good line yet and append every answer as it comes; errors are tried again.

    Raises SpeechPruneError where a line cannot be written, ModelError where the model is gone.
    """
    done = {(line.sample, line.condition) for line in run.lines() if line.answered}
    if any(
        (each.id, condition.name) not in done for each in samples for condition in plan.conditions
    ):
        run.forget_results()
    with run.appending() as file, closing(workers.answer(jobs(samples, plan, done))) as lines:
        for line in lines:
            file.write(line)
            on_line(line)


def jobs(samples: Sequence[Sample], plan: Plan, done: set[tuple[str, str]]) -> Iterator[Job]:
    """What is left to do, `batch_size` recordings at a time, decoded when their turn comes."""
    by_recording: dict[str, list[Sample]] = {}
    for sample in samples:
        by_recording.setdefault(str(sample.audio), []).append(sample)
    recordings = (
        RecordingJob(attempt(load_audio, group[0].audio), tuple(group), todo)
        for group in by_recording.values()
        if (todo := frozenset((each.id, c.name) for each in group for c in plan.conditions) - done)
    )
    while job := tuple(islice(recordings, plan.batch_size)):
        yield job


def attempt(action: Callable[..., T], *arguments: Any) -> T | str:
    """What an action gives, or why it fails; only a model that is gone is raised.

    The reason is text, for an error holds on to the memory of what failed.
    """
    try:
        return action(*arguments)
    except ModelError:
        raise
    except SpeechPruneError as error:
        return str(error)
