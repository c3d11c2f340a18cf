"""Length, loudness and clipping of the recording as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechprune_cli.builder.checks.base import Check
from speechprune_cli.extras import need

if TYPE_CHECKING:
    import numpy as np

    from speechprune_cli.builder.checks.base import Measure
    from speechprune_cli.builder.script import Script

FULL_SCALE = 0.999


@dataclass(frozen=True)
class Sound(Check):
    """By ITU-R BS.1770, as pyloudnorm computes it."""

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
    from speechprune_cli.builder.mixing import loudness

    clipped = float((abs(samples) >= FULL_SCALE).mean())
    return {
        "seconds": len(samples) / rate,
        "lufs": round(loudness(samples, rate), 2),
        "clipped": clipped,
    }
