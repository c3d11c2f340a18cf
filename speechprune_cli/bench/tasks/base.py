"""What every benchmark is: something to load, and what is published about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from speechprune_cli.bench.sample import Benchmark


class Task(ABC):
    """A benchmark by name."""

    published: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """Accuracy in percent that the paper reports for Qwen2-Audio, by condition."""

    @abstractmethod
    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """Read and check it, before any model is loaded.

        Raises UsageError for the index, AudioError where not one recording is there, ModelError for
        the Hub. A single recording that is missing is left to the run, which counts it as an error.
        """
