"""Benchmarks: one file each, named like the benchmark. To add one, add a file.

A benchmark is a module of this package with a line `SUMMARY` for people and a function
`load(data, *, offline)` that gives a `Benchmark`. Modules whose names begin with an underscore are
shared pieces. What is wrong with the data is one line, raised before any model is loaded:
`UsageError` for the index, `AudioError` where not one recording is there, `ModelError` for the Hub.
A single recording that is missing is left to the run, which counts it as an error.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.errors import UsageError

TASKS = tuple(
    sorted(
        module.name.replace("_", "-")
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_")
    )
)


def load_task(name: str, data: Path | None, *, offline: bool) -> Benchmark:
    """Read a benchmark. Raises UsageError for an unknown one, listing those there are."""
    if name not in TASKS:
        raise UsageError(f"unknown benchmark {name!r}: choose from {', '.join(TASKS)}")
    benchmark: Benchmark = _module(name).load(data, offline=offline)
    return benchmark


def describe() -> dict[str, str]:
    """Every benchmark's name and its one line for people."""
    return {name: _module(name).SUMMARY for name in TASKS}


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name.replace('-', '_')}")
