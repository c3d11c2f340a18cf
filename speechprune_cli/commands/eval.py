"""`speechprune eval`: how much a model still knows after pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from speechprune_cli import options
from speechprune_cli.bench.run import Evaluation, resume
from speechprune_cli.bench.run import evaluate as evaluate_benchmark
from speechprune_cli.bench.tasks import TASKS
from speechprune_cli.commands.eval_progress import EvaluationProgress
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.options import bench_option, output_option
from speechprune_cli.output import Output

PLANLESS = {
    "benchmark", "resumed", "derive_hard", "workers", "ray", "gpus", "json", "quiet", "verbose",
    "no_cache",
}  # fmt: skip
"""Parameters that a resumed run may be given anew: they change no answer."""

BenchmarkName = Annotated[
    str | None,
    typer.Argument(
        metavar="BENCHMARK", help=f"One of {', '.join(TASKS.names)}.", show_default=False
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
Keeps = Annotated[
    list[str] | None,
    bench_option(
        "--keep",
        metavar="WHAT",
        help="What stays of the recording: 20%, or 150 tokens. Repeatable.",
    ),
]
Paper = Annotated[
    bool,
    bench_option("--paper", metavar="", help="The methods and rates of SpeechPrune's tables."),
]
Query = Annotated[
    Literal["question", "question+choices"],
    bench_option(metavar="WHAT", help="What the audio is matched against."),
]
Folder = Annotated[
    Path | None,
    output_option("--output", "-o", metavar="FOLDER", help="Where the run goes. Default: runs/..."),
]
Resume = Annotated[
    Path | None,
    output_option(
        "--resume", metavar="FOLDER", help="Go on with a run, by its saved configuration."
    ),
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
    keep: Keeps = None,
    paper: Paper = False,
    budget: options.Budget = None,
    query: Query = "question",
    position: options.Position = None,
    setting: options.Settings = None,
    seed: options.Seed = None,
    output: Folder = None,
    resumed: Resume = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure a model on a benchmark, pruned and unpruned, with intervals, tests and controls.

    Every run also has full, original (what the model was trained to hear, such as the first 30 s)
    and silence in place of the recording. It can be interrupted at any point and resumed.
    """
    out = Output(json=json, quiet=quiet, verbose=verbose)
    work: dict[str, Any] = {
        "workers": workers,
        "ray": ray,
        "gpus": gpus,
        "cache": not no_cache,
        "derive_hard": derive_hard,
    }
    with EvaluationProgress(out) as progress:
        if resumed is not None:
            check_unchanged(context, resumed)
            done = resume(resumed, benchmark=benchmark, observer=progress, **work)
        elif benchmark is None:
            raise UsageError(f"name a benchmark: {', '.join(TASKS.names)}")
        else:
            done = evaluate_benchmark(
                benchmark,
                model=model,
                methods=method or (),
                rates=rate or (),
                keep=keep or (),
                paper=paper,
                data=data,
                output=output,
                observer=progress,
                **work,
                revision=revision,
                device=device,
                dtype=dtype,
                quantize=quantize,
                offline=offline,
                budget=options.parse_budget(budget),
                query=query,
                settings=options.parse_settings(setting or []),
                position=position,
                scoring=scoring,
                permute_options=permute_options,
                max_new_tokens=max_new_tokens,
                min_seconds=min_seconds,
                limit=limit,
                seed=seed or 0,
                batch_size=batch_size,
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
    from speechprune_cli.report import tables

    if done.hard == ():
        out.warning("original fails no sample: there is no table of what it fails")
    for result in done.results:
        out.record({"folder": str(done.folder), **tables.as_json(result)})
        out.show(tables.table(result))
        if not out.rich:
            out.text(tables.plain(result, explained=not out.quiet) + "\n")
    if not out.json and not out.quiet:
        out.text(f"run folder: {done.folder}\n")
    if done.errors:
        raise SpeechPruneError(
            f"{done.errors} of {done.asked} answers failed: {done.folder / 'lines.jsonl'} says "
            f"why; --resume {done.folder} tries them again"
        )
