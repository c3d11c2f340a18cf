"""The Python API of evaluating: what `speechprune eval` does, without a terminal.

>>> evaluation = evaluate("spiral-nano", methods=["cue", "random"], keep=["10%"], limit=20)
>>> {row.condition: row.accuracy for row in evaluation.results[0].rows}
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.atomic import locked, sweep
from speechprune_cli.bench.controls import controls
from speechprune_cli.bench.line import Line
from speechprune_cli.bench.metrics import doubts, hard_ids, summarise
from speechprune_cli.bench.plan import Plan, draw, long_enough
from speechprune_cli.bench.pool import WorkerPool
from speechprune_cli.bench.results import Results
from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.bench.store import Run
from speechprune_cli.bench.tables import results_table
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.errors import UsageError
from speechprune_cli.table import csv
from speechprune_cli.units import duration

if TYPE_CHECKING:
    from speechprune_cli.bench.jobs import Workers

SOON = 60.0  # seconds: what takes less is not announced


@dataclass(frozen=True)
class Evaluation:
    """A run that is finished."""

    folder: Path  # where its files are (`store.py`)
    plan: Plan
    results: tuple[Results, ...]  # of questions with options, open ones, spans; of what is hard
    asked: int  # samples times conditions
    errors: int  # how many of them failed; `resume` tries them again
    hard: tuple[str, ...] | None = None  # samples that `original` fails, where these were asked for
    doubts: tuple[str, ...] = ()  # about the recordings, one line each


class Observer:
    """Told how a run goes; what is not overridden does nothing."""

    def on_note(self, message: str) -> None:
        """What was decided as the model was loaded."""

    def on_warning(self, message: str) -> None:
        """What will be missing from the results."""

    def on_estimate(self, message: str) -> None:
        """How long it will take, before it starts."""

    def on_begin(self, run: OpenRun, lines: Sequence[Line]) -> None:
        """The model is loaded; `lines` are those of a run that is gone on with."""

    def on_line(self, line: Line) -> None:
        """An answer is had and kept, or why there is none."""


def evaluate(
    benchmark: str,
    *,
    model: str = "nano",
    methods: str | Iterable[str] = (),
    rates: float | Iterable[float] = (),
    keep: str | int | Iterable[str | int] = (),
    paper: bool = False,
    data: str | Path | None = None,
    output: str | Path | None = None,
    workers: int = 1,
    ray: str | None = None,
    gpus: float | None = None,
    cache: bool = True,
    derive_hard: bool = False,
    observer: Observer | None = None,
    **others: Any,
) -> Evaluation:
    """Measure a model on a benchmark: every method at every amount, beside the references.

    Amounts are `rates`, as in the paper, and `keep`: `"20%"` of the recording, or `"150"` tokens.
    Methods or amounts that are left out are the model's own, as for `ask`; `paper` takes those of
    the paper. `output` is a new folder, by default `runs/<benchmark>-<time>`. `others` are further
    fields of `Plan`, such as `limit`, `scoring`, `budget`, `settings` or `device`.

    A sample that fails is counted, not raised. Raises UsageError, AudioError where no recording is
    there, ModelError, OutOfMemoryError, and SpeechPruneError where a file cannot be written.
    """
    plan = Plan.resolve(
        benchmark,
        model=model,
        methods=methods,
        rates=rates,
        keep=keep,
        paper=paper,
        data=None if data is None else str(Path(data).absolute()),
        **others,
    )
    plan.check(model)
    folder = output or f"runs/{benchmark}-{datetime.now():%Y%m%d-%H%M%S}"
    pool = WorkerPool(workers, ray, gpus, cache)
    return begin(Run(Path(folder)), plan).finish(pool, derive_hard, observer or Observer())


def resume(
    folder: str | Path,
    *,
    benchmark: str | None = None,
    workers: int = 1,
    ray: str | None = None,
    gpus: float | None = None,
    cache: bool = True,
    derive_hard: bool = False,
    server: str | None = None,
    observer: Observer | None = None,
) -> Evaluation:
    """Go on with a run by its saved plan: ask what is missing or failed, sum up again.

    A run whose prompts a `server` read may go on with that one at another address. Raises what
    `evaluate` raises, and UsageError where the folder holds no sound run, or one of another
    version, `benchmark`, model or data, or of recordings that have changed.
    """
    pool, begun = WorkerPool(workers, ray, gpus, cache), Run(Path(folder))
    return reopen(begun, benchmark, server).finish(pool, derive_hard, observer or Observer())


@dataclass(frozen=True)
class OpenRun:
    """A run that is begun or gone on with: all that is settled before a model is loaded."""

    run: Run
    plan: Plan
    benchmark: Benchmark
    samples: tuple[Sample, ...]
    limited: bool

    @property
    def asked(self) -> int:
        """Answers that a finished run has."""
        return len(self.samples) * len(self.plan.conditions)

    def finish(self, pool: WorkerPool, derive_hard: bool, observer: Observer) -> Evaluation:
        """Answer what is missing, then sum up."""
        from speechprune_cli.bench.jobs import answer_missing

        with locked(self.run.folder, "run"):
            sweep(self.run.folder)
            with pool.load(self.plan, observer.on_note) as (workers, environment):
                self.run.write_environment(environment)
                lines = self.run.lines()
                if missing := self._missing():
                    observer.on_warning(missing)
                for doubt in workers.doubts(self.samples):
                    observer.on_warning(doubt)
                if estimate := self._expected(workers, lines):
                    observer.on_estimate(estimate)
                observer.on_begin(self, lines)
                answer_missing(self.run, self.plan, self.samples, workers, observer.on_line)
            return self._sum_up(derive_hard)

    def _missing(self) -> str:
        """Which recordings are not there; empty where all are."""
        paths = dict.fromkeys(sample.audio for sample in self.samples)
        gone = [path for path in paths if not path.is_file()]
        if not gone:
            return ""
        return (
            f"{len(gone)} of {len(paths)} recordings are missing, such as {gone[0]}: "
            "their questions will fail"
        )

    def _expected(self, workers: Workers, lines: Sequence[Line]) -> str:
        """How long what is missing will take; empty where that is soon, or nobody knows."""
        done = {(line.sample, line.condition) for line in lines if line.answered}
        todo = [
            (sample, condition)
            for sample in self.samples
            for condition in self.plan.conditions
            if (sample.id, condition.name) not in done
        ]
        seconds = workers.expected_seconds(todo) if todo else None
        if seconds is None or seconds < SOON:
            return ""
        return (
            f"{len(todo):,} answers will take about {duration(seconds)}, and what encoding takes; "
            f"an interrupted run goes on with --resume {self.run.folder}"
        )

    def _sum_up(self, derive_hard: bool) -> Evaluation:
        """Write the tables."""
        lines, title, hard = self.run.lines(), self.benchmark.name, None
        if self.plan.data is not None:
            title += f" {Path(self.plan.data).name}"
        results = self._results(self.samples, lines, title)
        errors = sum(row.errors for result in results for row in result.rows)
        if derive_hard:
            hard = tuple(hard_ids(lines))
            self.run.write_text("hard.txt", "\n".join([*hard, ""]))
            part = [sample for sample in self.samples if sample.id in set(hard)]
            results += self._results(part, lines, f"{title}, what original fails", hard=True)
        tables = [results_table(result) for result in results]
        self.run.write_text("results.md", "\n\n".join(table.markdown() for table in tables))
        self.run.write_text("results.csv", csv(tables))
        self.run.write_json("results.json", [table.json() for table in tables])
        return Evaluation(
            self.run.folder, self.plan, tuple(results), self.asked, errors, hard, doubts(lines)
        )

    def _results(
        self, samples: Sequence[Sample], lines: Sequence[Line], title: str, *, hard: bool = False
    ) -> list[Results]:
        """Rows of all conditions on some of the samples, with the controls that need no model.

        Questions with options and open ones are no one accuracy, and spans have none: each kind has
        a table of its own. `hard`: see `summarise`.
        """
        plan = self.plan
        scoring: str = plan.scoring
        lettered = plan.server is not None and self.run.environment().get("by_letter")
        if lettered and scoring == "likelihood":
            scoring = "answered letter"
        kinds = {
            "questions with options": [s for s in samples if s.answer and s.options],
            "open questions": [s for s in samples if s.answer and not s.options],
            "spans": [s for s in samples if not s.answer],
        }
        return [
            Results(
                title=title if len(part) == len(samples) else f"{title}, {kind}",
                benchmark=self.benchmark.name,
                model=plan.model,
                rows=summarise(lines, {sample.id for sample in part}, hard=hard),
                controls=controls(part, permuted=plan.permute_options),
                published=self.benchmark.published,
                n_samples=len(part),
                limited=self.limited,
                scoring=scoring,
                permuted=plan.permute_options,
            )
            for kind, part in kinds.items()
            if part
        ]


def begin(run: Run, plan: Plan) -> OpenRun:
    """Make a run's folder, once the benchmark is read and checked."""
    benchmark = _load(plan)
    shortest = benchmark.min_seconds if plan.min_seconds is None else plan.min_seconds
    long = long_enough(benchmark.samples, shortest)
    samples = draw(long, plan.limit, plan.seed)
    limited = len(samples) < len(long)
    run.create(plan, benchmark, [sample.id for sample in samples], limited=limited)
    return OpenRun(run, plan, benchmark, tuple(samples), limited)


def reopen(run: Run, benchmark: str | None = None, server: str | None = None) -> OpenRun:
    """A run to go on with. Raises UsageError where it or its data is another one by now."""
    saved = run.read_to_resume()
    plan = Plan.from_json(saved["plan"])
    if benchmark not in (None, plan.benchmark):
        raise UsageError(f"{run.folder} is a run of {plan.benchmark}, not of {benchmark}")
    if server is not None:
        if plan.server is None:
            raise UsageError(f"{run.folder} was begun without --server: leave it out")
        plan = replace(plan, server=server)
    found = _load(plan)
    if found.fingerprint != saved["benchmark"]["fingerprint"]:
        raise UsageError(f"{found.source} has changed since {run.folder} was begun")
    asked = frozenset(saved["samples"])
    samples = [sample for sample in found.samples if sample.id in asked]
    run.check_recordings(samples, run.lines())
    return OpenRun(run, plan, found, tuple(samples), saved["limited"])


def _load(plan: Plan) -> Benchmark:
    """The benchmark, read and checked, without options where the plan takes those away."""
    data = None if plan.data is None else Path(plan.data)
    found = load_task(plan.benchmark, data, offline=plan.offline)
    if plan.scoring == "open":
        return replace(found, samples=tuple(replace(each, options=()) for each in found.samples))
    return found
