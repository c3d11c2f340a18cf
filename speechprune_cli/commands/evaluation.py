"""A run as `eval` makes it: begun or resumed, answered, summed up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from speechprune_cli.atomic import locked
from speechprune_cli.bench import tasks
from speechprune_cli.bench.grid import REFERENCES
from speechprune_cli.bench.plan import Plan, draw, long_enough
from speechprune_cli.bench.store import Run
from speechprune_cli.commands.steps import open_session
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechprune_cli.bench.evaluate import Workers
    from speechprune_cli.bench.results import Results
    from speechprune_cli.bench.sample import Benchmark, Sample


@dataclass(frozen=True)
class Crew:
    """Who answers: this process, or workers on this machine or on a cluster."""

    workers: int
    ray: str | None
    gpus: float | None
    cache: bool

    @contextmanager
    def at_work(self, out: Output, plan: Plan) -> Iterator[tuple[Workers, dict[str, Any]]]:
        """The workers, and a description of what they run on."""
        arguments = {
            "revision": plan.revision,
            "device": plan.device,
            "dtype": plan.dtype,
            "quantize": plan.quantize,
            "offline": plan.offline,
            "cache": self.cache,
        }
        if self.workers == 1 and self.ray is None:
            from speechprune_cli.bench.environment import describe_environment
            from speechprune_cli.bench.runner import Runner

            session = open_session(out, plan.model, **arguments)
            yield Runner(session, plan), describe_environment(session)
        else:
            from speechprune_cli.bench.ray_workers import ray_workers

            with ray_workers(plan, arguments, self.workers, self.ray, self.gpus) as workers:
                yield workers, workers.environment()


@dataclass(frozen=True)
class Evaluation:
    """A run, begun or resumed."""

    run: Run
    plan: Plan
    benchmark: Benchmark
    samples: tuple[Sample, ...]
    limited: bool

    def go(self, out: Output, crew: Crew, derive_hard: bool) -> None:
        """Answer what is missing, then sum up. Raises SpeechPruneError where answers failed."""
        from speechprune_cli.bench.evaluate import evaluate as answer

        with locked(self.run.folder, "run"):
            with (
                crew.at_work(out, self.plan) as (workers, environment),
                self.progress(out) as on_line,
            ):
                self.run.write_environment(environment)
                try:
                    answer(self.run, self.plan, self.samples, workers, on_line)
                except KeyboardInterrupt:
                    out.warning(
                        f"interrupted: go on with speechprune eval --resume {self.run.folder}"
                    )
                    raise
            errors = self.sum_up(out, derive_hard)
        if not out.json and not out.quiet:
            out.text(f"run folder: {self.run.folder}\n")
        if errors:
            asked = len(self.samples) * len(self.plan.conditions)
            raise SpeechPruneError(
                f"{errors} of {asked} answers failed: {self.run.lines_path} says why; "
                f"--resume {self.run.folder} tries them again"
            )

    @contextmanager
    def progress(self, out: Output) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A bar with the rate and the running accuracy of the first condition of the grid."""
        total = len(self.samples) * len(self.plan.conditions)
        watched = next(iter(self.plan.conditions[len(REFERENCES) :]), REFERENCES[0]).name
        done, right, warned = 0, list[float](), set[str]()
        resumed_at, begun = 0, perf_counter()
        with out.progress(self.benchmark.name) as on_progress:

            def on_line(line: dict[str, Any]) -> None:
                nonlocal done
                done += 1
                if line["status"] == "error" and line["sample"] not in warned:
                    warned.add(line["sample"])
                    out.warning(f"{line['sample']}: {line['error']}")
                if line["condition"] == watched and line["status"] == "ok":
                    right.append(line["correct"])
                rate = f"{(done - resumed_at) / (perf_counter() - begun):.1f} answers/s"
                note = f"{watched}: {100 * sum(right) / len(right):.1f}% right" if right else ""
                on_progress(done, total, f"{rate}  {note}")

            for line in self.run.lines():
                if line["status"] == "ok":
                    on_line(line)
            resumed_at, begun = done, perf_counter()
            yield on_line

    def sum_up(self, out: Output, derive_hard: bool) -> int:
        """Write and show the tables; the number of answers that failed."""
        from speechprune_cli.bench.metrics import hard_ids
        from speechprune_cli.bench.tables import results_table
        from speechprune_cli.table import csv

        lines = self.run.lines()
        title = self.benchmark.name
        if self.plan.data is not None:
            title += f" {Path(self.plan.data).name}"
        results = self.tables(self.samples, lines, title)
        errors = sum(row.errors for result in results for row in result.rows)
        if derive_hard:
            ids = hard_ids(lines)
            self.run.write_text("hard.txt", "\n".join([*ids, ""]))
            hard = [sample for sample in self.samples if sample.id in set(ids)]
            if not hard:
                out.warning("original fails no sample: there is no table of what it fails")
            results += self.tables(hard, lines, f"{title}, what original fails", hard=True)
        tables = [results_table(result) for result in results]
        self.run.write_text("results.md", "\n\n".join(table.markdown() for table in tables))
        self.run.write_text("results.csv", csv(tables))
        self.run.write_json("results.json", [table.json() for table in tables])
        for table in tables:
            out.record({"folder": str(self.run.folder), **table.json()})
        out.tables(tables)
        return errors

    def tables(
        self,
        samples: Sequence[Sample],
        lines: Sequence[dict[str, Any]],
        title: str,
        *,
        hard: bool = False,
    ) -> list[Results]:
        """What the lines come to on some of the samples."""
        from speechprune_cli.bench.results import sum_up

        return sum_up(
            self.plan,
            self.benchmark,
            samples,
            lines,
            limited=self.limited,
            title=title,
            hard=hard,
        )


def begun(run: Run, plan: Plan) -> Evaluation:
    """A new run: the benchmark is read and checked before anything is loaded."""
    benchmark = loaded(plan)
    shortest = benchmark.min_seconds if plan.min_seconds is None else plan.min_seconds
    long = long_enough(benchmark.samples, shortest)
    samples = draw(long, plan.limit, plan.seed)
    limited = len(samples) < len(long)
    run.create(plan, benchmark, [sample.id for sample in samples], limited=limited)
    return Evaluation(run, plan, benchmark, as_asked(samples, plan), limited)


def resumed(run: Run, benchmark: str | None) -> Evaluation:
    """A run to go on with. Raises UsageError where it or its data is another one by now."""
    saved = run.read()
    plan = Plan.from_json(saved["plan"])
    if benchmark not in (None, plan.benchmark):
        raise UsageError(f"{run.folder} is a run of {plan.benchmark}, not of {benchmark}")
    found = loaded(plan)
    if found.fingerprint != saved["benchmark"]["fingerprint"]:
        raise UsageError(f"{found.source} has changed since {run.folder} was begun")
    asked = frozenset(saved["samples"])
    samples = [sample for sample in found.samples if sample.id in asked]
    return Evaluation(run, plan, found, as_asked(samples, plan), saved["limited"])


def loaded(plan: Plan) -> Benchmark:
    """The benchmark, its index read and checked."""
    data = None if plan.data is None else Path(plan.data)
    return tasks.load_task(plan.benchmark, data, offline=plan.offline)


def as_asked(samples: Sequence[Sample], plan: Plan) -> tuple[Sample, ...]:
    """The samples, without their options where the plan takes those away."""
    if plan.scoring == "open":
        return tuple(replace(sample, options=()) for sample in samples)
    return tuple(samples)
