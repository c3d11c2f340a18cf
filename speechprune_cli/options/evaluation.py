"""What is asked, how, by whom, and where the run goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from speechprune_cli.options.grouping import answer_option, output_option, panel, rare_option
from speechprune_cli.options.model import POSITION, Position

bench_option, worker_option = panel("Benchmark"), panel("Workers")


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is asked, and what counts as right."""

    data: Path | None = bench_option(
        "Where the benchmark's files are, if they are not shipped.", metavar="PATH"
    )
    limit: int | None = bench_option(
        "A random N of the samples; the run is marked.", metavar="N", min=1
    )
    scoring: Literal["likelihood", "letter", "generate", "open"] = bench_option(
        "likelihood of the options' texts, likelihood of their letter, generate: the letter named "
        "in a free answer, or open: a free answer that never saw the options.",
        default="likelihood",
        metavar="HOW",
    )
    permute_options: bool = bench_option("Ask every rotation of the options.")
    min_seconds: float | None = rare_option(
        "Only recordings longer than this. Default: the benchmark's.", metavar="S"
    )
    max_new_tokens: int = answer_option(
        "Longest answer to an open question.", default=32, metavar="N", min=1, env=True
    )
    position: Position = rare_option(POSITION, metavar="MODE", env=True)

    @property
    def asked(self) -> dict[str, Any]:
        """As `evaluate` takes it."""
        return vars(self)


@dataclass(frozen=True)
class WorkerOptions:
    """Who answers."""

    batch_size: int = worker_option(
        "Prompts read together.", default=1, metavar="N", min=1, env=True
    )
    workers: int = worker_option(
        "Processes that hold a model each, by Ray.", default=1, metavar="N", min=1
    )
    ray: str | None = worker_option("A Ray cluster to run on, or auto.", metavar="ADDRESS")
    gpus: float | None = worker_option(
        "GPUs for each worker; fractions share one.", metavar="G", min=0
    )


@dataclass(frozen=True)
class RunOptions:
    """Where the run goes, and whether it goes on."""

    output: Path | None = output_option(
        "Where the run goes. Default: runs/...", "--output", "-o", metavar="FOLDER"
    )
    resume: Path | None = output_option(
        "Go on with a run, by its saved configuration.", metavar="FOLDER"
    )
    derive_hard: bool = output_option("List the samples that original fails, and a table on them.")
