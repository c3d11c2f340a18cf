"""What all checks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from speechprune_cli.builder.script import Script

Measure = Callable[[np.ndarray, int, Script], dict[str, float]]
"""Samples `[T]`, their rate and the script -> what was found, by name."""


class Check(ABC):
    """Something to measure, its model not loaded yet; its fields are its settings."""

    finds: ClassVar[frozenset[str]] = frozenset()
    """Names of what it finds; a sample without one of them is measured again."""

    @abstractmethod
    def check(self) -> None:
        """Raises UsageError that says what has to be installed."""

    @abstractmethod
    def load(self) -> Measure:
        """Ready to measure, on one thread."""

    @abstractmethod
    def describe(self) -> str:
        """What measures, for the report."""
