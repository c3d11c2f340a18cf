"""What is asked, how, by whom, and where the run goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from speechprune_cli.options.grouping import answer_option, output_option, panel, rare_option

bench_option, worker_option = panel("Benchmark"), panel("Workers")


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is asked, and what counts as right."""

    data: Annotated[
        Path | None,
        bench_option(
            metavar="PATH", help="Where the benchmark's files are, if they are not shipped."
        ),
    ] = None
    limit: Annotated[
        int | None,
        bench_option(metavar="N", min=1, help="A random N of the samples; the run is marked."),
    ] = None
    scoring: Annotated[
        Literal["likelihood", "letter", "generate", "open"],
        bench_option(
            metavar="HOW",
            help="likelihood of the options' texts, likelihood of their letter, generate: the "
            "letter named in a free answer, or open: a free answer that never saw the options.",
        ),
    ] = "likelihood"
    permute_options: Annotated[
        bool,
        bench_option("--permute-options", metavar="", help="Ask every rotation of the options."),
    ] = False
    min_seconds: Annotated[
        float | None,
        rare_option(
            metavar="S", help="Only recordings longer than this. Default: the benchmark's."
        ),
    ] = None
    max_new_tokens: Annotated[
        int,
        answer_option(
            envvar="SPEECHPRUNE_MAX_NEW_TOKENS",
            metavar="N",
            min=1,
            help="Longest answer to an open question.",
        ),
    ] = 32
    position: Annotated[
        Literal["repacked", "original"] | None,
        rare_option(
            envvar="SPEECHPRUNE_POSITION",
            metavar="MODE",
            help="Positions of the retained tokens: repacked or original. Default: the preset's.",
        ),
    ] = None


@dataclass(frozen=True)
class WorkerOptions:
    """Who answers."""

    batch_size: Annotated[
        int,
        worker_option(
            envvar="SPEECHPRUNE_BATCH_SIZE", metavar="N", min=1, help="Prompts read together."
        ),
    ] = 1
    workers: Annotated[
        int, worker_option(metavar="N", min=1, help="Processes that hold a model each, by Ray.")
    ] = 1
    ray: Annotated[
        str | None,
        worker_option("--ray", metavar="ADDRESS", help="A Ray cluster to run on, or auto."),
    ] = None
    gpus: Annotated[
        float | None,
        worker_option(metavar="G", min=0, help="GPUs for each worker; fractions share one."),
    ] = None


@dataclass(frozen=True)
class RunOptions:
    """Where the run goes, and whether it goes on."""

    output: Annotated[
        Path | None,
        output_option(
            "--output", "-o", metavar="FOLDER", help="Where the run goes. Default: runs/..."
        ),
    ] = None
    resume: Annotated[
        Path | None,
        output_option(metavar="FOLDER", help="Go on with a run, by its saved configuration."),
    ] = None
    derive_hard: Annotated[
        bool,
        output_option(
            "--derive-hard",
            metavar="",
            help="List the samples that original fails, and a table on them.",
        ),
    ] = False
