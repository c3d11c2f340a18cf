"""What all layouts have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from speechprune_cli.builder.script import Sample, Script, Speech
from speechprune_cli.builder.sound import save_sound


class Layout(ABC):
    """Where the files of a build are, and how its index is written."""

    index: str  # name of the index: a line of JSON for each sample
    evaluation: str  # the command that evaluates on it, with `{folder}` for the build's folder
    formats: tuple[str, ...] = ("flac", "opus", "wav")  # the first where none is asked for

    @abstractmethod
    def audio(self, sample: Sample, suffix: str) -> str:
        """Path of the recording, from the build's folder."""

    @abstractmethod
    def line(self, sample: Sample, suffix: str) -> dict[str, Any]:
        """The sample as a line of the index."""

    def save(
        self, folder: Path, name: str, samples: np.ndarray, script: Script, speech: Speech
    ) -> None:
        """Write the recording, samples `[T]`, to `folder / name`, and what belongs to it."""
        save_sound(folder / name, samples, speech.rate)
