"""SPIRAL in small: recordings that come with the package, in the format of `jsonl`."""

from __future__ import annotations

from pathlib import Path

from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.tasks import jsonl
from speechprune_cli.errors import UsageError

SUMMARY = "about 40 recordings of a minute and a half that come with the package"
FOLDER = Path(__file__).parents[1] / "spiral_nano"


def load(data: Path | None, *, offline: bool) -> Benchmark:
    """The package's own recordings. Raises UsageError for `data`: there is nothing to choose."""
    if data is not None:
        raise UsageError("spiral-nano comes with the package and takes no --data")
    return jsonl.read("spiral-nano", FOLDER / "index.jsonl")
