"""Benchmarks: one file each, named like the benchmark, a subclass of `Task` in each.

To add one, add a file, or an entry point of the group `speechprune.benchmarks` in another package.
"""

from __future__ import annotations

from pathlib import Path

from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.tasks.base import Task
from speechprune_cli.registry import Registry

TASKS: Registry[Task] = Registry(
    __name__, __path__, Task, "benchmark", group="speechprune.benchmarks", hyphens=True
)


def load_task(name: str, data: Path | None, *, offline: bool) -> Benchmark:
    """Read a benchmark. Raises UsageError for an unknown one, and what `Task.load` raises."""
    return TASKS.part(name)().load(data, offline=offline)
