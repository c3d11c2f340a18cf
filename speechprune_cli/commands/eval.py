"""`speechprune eval`: how much a model still knows after pruning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechprune_cli.bench.tasks import TASKS
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.options import (
    GridOptions,
    MatchingOptions,
    ModelOptions,
    OutputOptions,
    ServerOptions,
    argument,
    grouped,
)
from speechprune_cli.options.evaluation import BenchmarkOptions, RunOptions, WorkerOptions
from speechprune_cli.options.grouping import by_environment
from speechprune_cli.output import Output

if TYPE_CHECKING:
    from speechprune_cli.bench.run import Evaluation

PLANLESS = {
    "benchmark", "resume", "derive_hard", "workers", "ray", "gpus", "json", "quiet", "verbose",
    "no_cache", "server",
}  # fmt: skip
"""Options that a resumed run may be given anew: they change no answer."""

BenchmarkName = Annotated[str | None, argument("BENCHMARK", f"One of {', '.join(TASKS.names)}.")]


@grouped
def evaluate(
    context: typer.Context,
    benchmark: BenchmarkName = None,
    *,
    asking: BenchmarkOptions,
    model: ModelOptions,
    pruning: GridOptions,
    matching: MatchingOptions,
    working: WorkerOptions,
    run: RunOptions,
    serving: ServerOptions,
    output: OutputOptions,
) -> None:
    """Measure a model on a benchmark, pruned and unpruned, with intervals and tests.

    Always asked too: with all tokens (full), with the model's own input length
    (original) and with silence. A run can be interrupted anywhere and resumed.
    """
    from speechprune_cli.bench.run import evaluate as evaluate_benchmark
    from speechprune_cli.bench.run import resume
    from speechprune_cli.commands.eval_progress import EvaluationProgress

    out, server = output.open(), serving.url
    work = working.pool | {"cache": not model.no_cache, "derive_hard": run.derive_hard}
    with EvaluationProgress(out) as progress:
        if run.resume is not None:
            check_unchanged(context, run.resume)
            done = resume(
                run.resume,
                benchmark=benchmark,
                observer=progress,
                server=None if by_environment("server") else server,
                **work,
            )
        elif benchmark is None:
            raise UsageError(f"name a benchmark: {', '.join(TASKS.names)}")
        else:
            done = evaluate_benchmark(
                benchmark,
                model=model.name,
                output=run.output,
                observer=progress,
                **pruning.asked,
                **asking.asked,
                **work,
                **model.place,
                language=model.spoken,
                server=server,
                budget=pruning.b1,
                query=matching.query,
                settings=pruning.settings,
                seed=matching.seed or 0,
                batch_size=working.batch_size,
            )
    show(out, done)


def check_unchanged(context: typer.Context, folder: Path) -> None:
    """Raise UsageError for an option that would change a resumed run."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in PLANLESS and source is not None and source.name == "COMMANDLINE":
            option = "--" + {"setting": "set"}.get(name, name).replace("_", "-")
            raise UsageError(f"--resume {folder} goes on as it was begun: leave {option} out")


def show(out: Output, done: Evaluation) -> None:
    """The tables. Raises SpeechPruneError where answers failed."""
    from speechprune_cli.bench.tables import results_table

    if done.hard == ():
        out.warning("original fails no sample: there is no table of what it fails")
    for doubt in done.doubts:
        out.warning(doubt)
    tables = [results_table(result) for result in done.results]
    for table in tables:
        out.record({"folder": str(done.folder), **table.json()})
    out.tables(tables)
    if not out.json and not out.quiet:
        out.text(f"run folder: {done.folder}\n")
    if done.errors:
        raise SpeechPruneError(
            f"{done.errors} of {done.asked} answers failed: {done.folder / 'lines.jsonl'} says "
            f"why; --resume {done.folder} tries them again"
        )
