"""Length, loudness and clipping of the recording as it was written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechprune_cli.builder.checks.base import Check, Measure
from speechprune_cli.builder.mixing import loudness
from speechprune_cli.builder.script import Script
from speechprune_cli.extras import need


@dataclass(frozen=True)
class Sound(Check):
    """By ITU-R BS.1770, as pyloudnorm computes it."""

    finds = frozenset({"seconds", "lufs", "clipped"})

    def check(self) -> None:
        """The loudness meter."""
        need("pyloudnorm", "speechprune build", "build")

    def load(self) -> Measure:
        """Nothing to load."""
        return measure

    def describe(self) -> str:
        """A standard."""
        return "ITU-R BS.1770 by pyloudnorm"


def measure(samples: np.ndarray, rate: int, script: Script) -> dict[str, float]:
    """Seconds, LUFS, and the share of samples at full scale."""
    return {
        "seconds": len(samples) / rate,
        "lufs": round(loudness(samples, rate), 2),
        "clipped": float((abs(samples) >= 0.999).mean()),
    }
