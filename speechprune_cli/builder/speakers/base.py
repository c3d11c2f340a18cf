"""What all speech synthesizers have in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from speechprune_cli.errors import UsageError

if TYPE_CHECKING:
    import onnxruntime

OnProgress = Callable[[int, int, str], None]  # told how much is done, of how much, and of what


@dataclass(frozen=True)
class Voice:
    """A name that the synthesizer knows, and the gender that people hear, where that is known."""

    name: str
    gender: Literal["f", "m", "?"]


class Synthesizer(Protocol):
    """A loaded speech synthesizer."""

    voices: tuple[str, ...]

    def reseed(self, seed: int) -> None:
        """Begin anew: what is said after it depends on the seed and on nothing said before."""

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """float32 samples `[T]` and their rate."""


class Speaker(ABC):
    """A speech synthesizer that is not loaded yet; its fields are its settings."""

    licence: str  # of the voices, in a word or two; what it needs is told by `check`

    @abstractmethod
    def check(self) -> None:
        """Raises UsageError that says what has to be installed or fetched, and how."""

    def fetch(self, on_progress: OnProgress) -> Path:
        """Get its files; the folder that they are in.

        Raises UsageError where they come in another way, SpeechPruneError where a fetch fails.
        """
        raise UsageError("--fetch-voices: of this --speaker there is nothing to fetch")

    @abstractmethod
    def voices(self) -> tuple[Voice, ...]:
        """All that may speak, in the same order everywhere."""

    @abstractmethod
    def load(self) -> Synthesizer:
        """Ready to speak, on one thread: several would not add up to the same last digits."""

    @abstractmethod
    def sources(self) -> dict[str, str]:
        """Files that the sound depends on, with their SHA-256, or packages with their version."""


def sha256(paths: Iterable[Path]) -> str:
    """Of the files in a row. Raises UsageError where one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def onnx_session(model: Path) -> onnxruntime.InferenceSession:
    """On one thread. Raises UsageError where there is no such file, or no model in it."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidProtobuf

    if not model.is_file():
        raise UsageError(f"{model}: no such model file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidProtobuf) as error:
        raise UsageError(f"{model}: no ONNX model: {str(error).splitlines()[0][:120]}") from error
