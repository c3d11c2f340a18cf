"""40 recordings of a minute and a half that come with the package, two questions each."""

from __future__ import annotations

from pathlib import Path

from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.tasks.base import Task
from speechprune_cli.bench.tasks.jsonl import read
from speechprune_cli.errors import UsageError

FOLDER = Path(__file__).parents[1] / "spiral_nano"


class SpiralNano(Task):
    """SPIRAL in small, in the format of `jsonl`."""

    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """The package's own recordings. Raises UsageError for `data`: there is no choice."""
        if data is not None:
            raise UsageError("spiral-nano comes with the package and takes no --data")
        return read("spiral-nano", FOLDER / "index.jsonl")
