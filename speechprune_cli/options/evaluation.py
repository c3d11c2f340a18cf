"""What is asked, how, by whom, and where the run goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from speechprune_cli.options.grouping import answering, panel, rare, showing
from speechprune_cli.options.model import POSITION, Position

asking, working = panel("Benchmark"), panel("Workers")


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is asked, and what counts as right."""

    data: Path | None = asking("Where the benchmark's files are, if they are not shipped.", "PATH")
    limit: int | None = asking("A random N of the samples; the run is marked.", "N", min=1)
    scoring: Literal["likelihood", "letter", "generate", "open"] = asking(
        "likelihood of the options' texts, likelihood of their letter, generate: the letter named "
        "in a free answer, or open: a free answer that never saw the options.",
        "HOW",
        default="likelihood",
    )
    permute_options: bool = asking("Ask every rotation of the options.")
    min_seconds: float | None = rare(
        "Only recordings longer than this. Default: the benchmark's.", "S"
    )
    max_new_tokens: int = answering(
        "Longest answer to an open question.", "N", default=32, min=1, env=True
    )
    position: Position = rare(POSITION, "MODE", env=True)

    @property
    def asked(self) -> dict[str, Any]:
        """As `evaluate` takes it."""
        return vars(self)


@dataclass(frozen=True)
class WorkerOptions:
    """Who answers."""

    batch_size: int = working("Prompts read together.", "N", default=1, min=1, env=True)
    workers: int = working("Processes that hold a model each, by Ray.", "N", default=1, min=1)
    ray: str | None = working("A Ray cluster to run on, or auto.", "ADDRESS")
    gpus: float | None = working("GPUs for each worker; fractions share one.", "G", min=0)

    @property
    def pool(self) -> dict[str, Any]:
        """As `evaluate` and `resume` take it."""
        return {"workers": self.workers, "ray": self.ray, "gpus": self.gpus}


@dataclass(frozen=True)
class RunOptions:
    """Where the run goes, and whether it goes on."""

    output: Path | None = showing(
        "Where the run goes. Default: runs/...", "FOLDER", "--output", "-o"
    )
    resume: Path | None = showing("Go on with a run, by its saved configuration.", "FOLDER")
    derive_hard: bool = showing("List the samples that original fails, and a table on them.")
