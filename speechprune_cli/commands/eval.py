"""`speechprune eval`: how much a model still knows after pruning."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from speechprune_cli import options
from speechprune_cli.bench import tasks
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.store import Run
from speechprune_cli.commands.evaluation import Crew, begun, resumed
from speechprune_cli.errors import UsageError
from speechprune_cli.options import bench_option, output_option
from speechprune_cli.output import Output
from speechprune_cli.pipeline import QUERIES

PLANLESS = {
    "benchmark", "resume", "derive_hard", "workers", "ray", "gpus", "json", "quiet", "verbose",
    "no_cache",
}  # fmt: skip
"""Parameters that a resumed run may be given anew: they change no answer."""

BenchmarkName = Annotated[
    str | None,
    typer.Argument(
        metavar="BENCHMARK", help=f"One of {', '.join(tasks.TASKS)}.", show_default=False
    ),
]
Data = Annotated[
    Path | None,
    bench_option(metavar="PATH", help="Where the benchmark's files are, if they are not shipped."),
]
MinSeconds = Annotated[
    float | None,
    bench_option(metavar="S", help="Only recordings longer than this. Default: the benchmark's."),
]
Limit = Annotated[
    int | None,
    bench_option(metavar="N", min=1, help="A random N of the samples; the run is marked."),
]
Scoring = Annotated[
    Literal["likelihood", "letter", "generate", "open"],
    bench_option(
        metavar="HOW",
        help="likelihood of the options' texts, likelihood of their letter, generate: the letter "
        "named in a free answer, or open: a free answer that never saw the options.",
    ),
]
Permute = Annotated[
    bool,
    bench_option("--permute-options", metavar="", help="Ask every rotation of the options."),
]
DeriveHard = Annotated[
    bool,
    bench_option(
        "--derive-hard",
        metavar="",
        help="List the samples that original fails, and a table on them.",
    ),
]
BatchSize = Annotated[
    int,
    bench_option(
        envvar="SPEECHPRUNE_BATCH_SIZE", metavar="N", min=1, help="Prompts read together."
    ),
]
MaxNewTokens = Annotated[
    int,
    bench_option(
        envvar="SPEECHPRUNE_MAX_NEW_TOKENS",
        metavar="N",
        min=1,
        help="Longest answer to an open question.",
    ),
]
WorkerCount = Annotated[
    int, bench_option(metavar="N", min=1, help="Processes that hold a model each, by Ray.")
]
RayAddress = Annotated[
    str | None, bench_option("--ray", metavar="ADDRESS", help="A Ray cluster to run on, or auto.")
]
Gpus = Annotated[
    float | None,
    bench_option(metavar="G", min=0, help="GPUs for each worker; fractions share one."),
]
Folder = Annotated[
    Path | None,
    output_option("--output", "-o", metavar="FOLDER", help="Where the run goes. Default: runs/..."),
]
Resume = Annotated[
    Path | None,
    output_option(metavar="FOLDER", help="Go on with a run, by its saved configuration."),
]


def evaluate(
    context: typer.Context,
    benchmark: BenchmarkName = None,
    *,
    data: Data = None,
    min_seconds: MinSeconds = None,
    limit: Limit = None,
    scoring: Scoring = "likelihood",
    permute_options: Permute = False,
    derive_hard: DeriveHard = False,
    batch_size: BatchSize = 1,
    max_new_tokens: MaxNewTokens = 32,
    workers: WorkerCount = 1,
    ray: RayAddress = None,
    gpus: Gpus = None,
    model: options.Model = "nano",
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.DType = "auto",
    quantize: options.Quantize = "none",
    offline: options.Offline = False,
    no_cache: options.NoCache = False,
    method: options.Methods = None,
    rate: options.Rates = None,
    budget: options.Budget = None,
    position: options.Position = None,
    setting: options.Settings = None,
    seed: options.Seed = None,
    output: Folder = None,
    resume: Resume = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure a model on a benchmark, pruned and unpruned, with intervals, tests and controls.

    Every run also has full, original (the first 30 s) and silence in place of the recording. It
    can be interrupted at any point and resumed.
    """
    from speechprune_cli.config import resolve_model

    out = Output(json=json, quiet=quiet, verbose=verbose)
    if resume is not None:
        check_unchanged(context, benchmark, resume)
        job = resumed(Run(resume), benchmark)
    else:
        if benchmark is None:
            raise UsageError(f"name a benchmark: {', '.join(tasks.TASKS)}")
        resolve_model(model)
        settings = options.parse_settings(setting or [])
        plan = Plan(
            benchmark=benchmark,
            data=None if data is None else str(data.absolute()),
            model=model,
            revision=revision,
            device=device,
            dtype=dtype,
            quantize=quantize,
            offline=offline,
            methods=tuple(method or ["speechprune"]),
            rates=tuple(rate or [0.2]),
            budget=options.parse_budget(budget),
            query=settings.pop("query", QUERIES[0]),
            settings=settings,
            position=position,
            scoring=scoring,
            permute_options=permute_options,
            max_new_tokens=max_new_tokens,
            min_seconds=min_seconds,
            limit=limit,
            seed=seed or 0,
            batch_size=batch_size,
        )
        job = begun(Run(output or default_folder(benchmark)), plan)
    job.go(out, Crew(workers, ray, gpus, cache=not no_cache), derive_hard)


def check_unchanged(context: typer.Context, benchmark: str | None, folder: Path) -> None:
    """Raise UsageError for an option that would change a resumed run."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in PLANLESS and source is not None and source.name == "COMMANDLINE":
            option = "--" + {"setting": "set"}.get(name, name).replace("_", "-")
            raise UsageError(f"--resume {folder} goes on as it was begun: leave {option} out")


def default_folder(benchmark: str) -> Path:
    """A new folder for every run, named by benchmark and time."""
    return Path("runs") / f"{benchmark}-{datetime.now():%Y%m%d-%H%M%S}"
