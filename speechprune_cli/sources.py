"""What people have of a recording, as `Audio`: a path, bytes, an open file, or samples."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from math import inf
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from speechprune_cli.errors import AudioError, UsageError
from speechprune_cli.flow import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from torch import Tensor

    Recording: TypeAlias = (
        Audio | str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | np.ndarray
    ) | Tensor

LOUDEST = 2.0**31  # of floats that hold 32-bit samples as they are; full scale is 1
MOST_CHANNELS = 32


def as_audio(recording: Recording, sample_rate: int | None = None) -> Audio:
    """A recording of any of these kinds, its samples checked.

    Samples come as an array or tensor `[T]`, `[T, channels]` or `[channels, T]`, with their
    `sample_rate`; integers are taken by the full scale of their type. Bytes and open files hold a
    recording in any format. Raises TypeError for anything else, UsageError for a rate that is
    missing or makes no sense, AudioError as `load_audio` does.
    """
    found = _samples(recording)
    if found is None and sample_rate is not None:
        raise UsageError("sample_rate goes with samples: files say theirs")
    audio = _decoded(recording) if found is None else _of_samples(found, sample_rate)
    check_samples(audio)
    return audio


def check_samples(audio: Audio) -> None:
    """Raise AudioError, which says when, for samples that are no sound: NaN, infinite, huge."""
    samples = audio.samples
    if not len(samples) or max(-float(samples.min()), float(samples.max())) <= LOUDEST:
        return
    wrong = np.flatnonzero(~(np.abs(samples) <= LOUDEST))
    start, end = wrong[0] / SAMPLE_RATE, (wrong[-1] + 1) / SAMPLE_RATE
    worst = samples[wrong[0]]
    raise AudioError(
        f"{audio.source}: its samples from {start:.3f} s to {end:.3f} s are no sound: "
        f"{worst:g}, where full scale is 1"
    )


def _decoded(recording: Any) -> Audio:
    from speechprune_cli.audio import load_audio

    if isinstance(recording, Audio):
        return recording
    if isinstance(recording, str | os.PathLike):
        return load_audio(Path(recording) if not isinstance(recording, str) else recording)
    if isinstance(recording, bytes | bytearray | memoryview):
        return stored(io.BytesIO(recording), "the bytes given")
    if callable(getattr(recording, "read", None)):
        return stored(recording, str(getattr(recording, "name", "the file given")))
    raise TypeError(
        f"a recording cannot be a {type(recording).__name__}: give a path, bytes, a file that is "
        "open in binary mode, or an array or tensor of samples with sample_rate"
    )


def stored(file: Any, name: str, track: int | None = None, longest: float = inf) -> Audio:
    """Decoded from a copy, since decoders need a file of their own; `name` stands for its name.

    `track` and `longest` are those of `load_audio`, which says what is raised.
    """
    from speechprune_cli.audio import label_of, load_audio

    label = label_of(name)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        with path.open("wb") as copy:
            try:
                shutil.copyfileobj(file, copy)
            except TypeError:
                raise TypeError(f"{label}: open the file in binary mode") from None
        try:
            audio = load_audio(path, track, longest)
        except (AudioError, UsageError) as error:
            raise type(error)(str(error).replace(str(path), label)) from error
    warnings = tuple(each.replace(str(path), label) for each in audio.warnings)
    return replace(audio, source=name, warnings=warnings)


def _samples(recording: Any) -> np.ndarray | None:
    """An array or a tensor as an array; None for anything else."""
    if isinstance(recording, np.ndarray):
        return recording
    if hasattr(recording, "detach") and hasattr(recording, "cpu"):
        tensor = recording.detach().cpu()
        array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return array
    return None


def _of_samples(samples: np.ndarray, given: Any) -> Audio:
    import soxr

    if given is None:
        raise UsageError("samples need their rate: encode(samples, sample_rate=16000)")
    if isinstance(given, bool) or not isinstance(given, Real) or not 1 <= float(given) < LOUDEST:
        raise UsageError(f"sample_rate is {given!r}: give samples per second, as 16000")
    rate = float(given)
    mono, channels = _mono(samples)
    if not len(mono):
        raise AudioError("the array given: holds no samples")
    if not np.isfinite(mono).all():
        at = int(np.flatnonzero(~np.isfinite(mono))[0])
        raise AudioError(f"the array given: the sample at {at / rate:.3f} s is NaN or infinite")
    heard = mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)
    name = f"{len(mono) / rate:.1f} s of samples"
    return Audio(heard.copy(), name, "", int(rate), channels, len(mono) / rate)


def _mono(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Float32 `[T]` at full scale 1, and how many channels were averaged."""
    if samples.ndim not in (1, 2):
        expected = "[T], [T, channels] or [channels, T]"
        raise UsageError(f"samples of shape {samples.shape}: give {expected}")
    scaled = _scaled(samples)
    if scaled.ndim == 1:
        return scaled, 1
    axis = int(np.argmin(scaled.shape))
    if scaled.shape[axis] > MOST_CHANNELS:
        raise UsageError(f"samples of shape {samples.shape}: which of the two are channels?")
    return scaled.mean(axis=axis), scaled.shape[axis]


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Float32, integers divided by what their type holds."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype.kind not in "iu":
        raise TypeError(f"samples of the type {samples.dtype}: give floats or integers")
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = scale if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - middle) / scale).astype(np.float32)
