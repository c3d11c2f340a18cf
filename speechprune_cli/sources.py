"""What people have of a recording, as `Audio`: a path, bytes, an open file, or samples."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import inf
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from speechprune_cli.errors import AudioError, UsageError
from speechprune_cli.flow import SAMPLE_RATE, Audio
from speechprune_cli.mixdown import BLOCK_FRAMES, LOWEST_RATE, Mixdown, check_samples

if TYPE_CHECKING:
    from torch import Tensor

    Recording: TypeAlias = (
        Audio | str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | np.ndarray
    ) | Tensor

MOST_CHANNELS = 32
HIGHEST_RATE = 10**7  # Hz
ARRAY = "the array given"


def as_audio(
    recording: Recording, sample_rate: int | None = None, track: int | None = None
) -> Audio:
    """A recording of any of these kinds, its samples checked.

    Samples come as an array or tensor `[T]`, `[T, channels]` or `[channels, T]`, with their
    `sample_rate`; integers are taken by the full scale of their type. Bytes and open files hold a
    recording in any format; of several audio tracks that of number `track`, counted from 1, is
    read (default: the default one). Both are mixed down by `mixdown.py`. Raises TypeError for
    anything else, UsageError for a rate that is missing or makes no sense and for what does not
    go together, AudioError as `load_audio` does.
    """
    found = _samples(recording)
    if found is None and sample_rate is not None:
        raise UsageError("sample_rate goes with samples: files say theirs")
    if track is not None and (found is not None or isinstance(recording, Audio)):
        raise UsageError("track goes with files: samples are one track")
    if isinstance(recording, Audio):
        return _checked(recording)
    if found is not None:
        return _of_samples(found, sample_rate)
    if track is not None and (isinstance(track, bool) or not isinstance(track, Integral)):
        raise UsageError(f"track is {track!r}: give its number, counted from 1")
    return _decoded(recording, track)


def _checked(audio: Audio) -> Audio:
    for start in range(0, len(audio.samples), BLOCK_FRAMES):
        block = audio.samples[start : start + BLOCK_FRAMES, None]
        check_samples(block, SAMPLE_RATE, Fraction(start, SAMPLE_RATE), audio.source)
    return audio


def _decoded(recording: Any, track: int | None) -> Audio:
    from speechprune_cli.audio import load_audio

    if isinstance(recording, str | os.PathLike):
        return load_audio(Path(recording) if not isinstance(recording, str) else recording, track)
    if isinstance(recording, bytes | bytearray | memoryview):
        return stored(io.BytesIO(recording), "the bytes given", track)
    if callable(getattr(recording, "read", None)):
        return stored(recording, str(getattr(recording, "name", "the file given")), track)
    raise TypeError(
        f"a recording cannot be a {type(recording).__name__}: give a path, bytes, a file that is "
        "open in binary mode, or an array or tensor of samples with sample_rate"
    )


def stored(
    file: Any,
    name: str,
    track: int | None = None,
    longest: float = inf,
    check: Callable[[], None] = lambda: None,
) -> Audio:
    """Decoded from a copy, since decoders need a file of their own; `name` stands for its name.

    The copy keeps the extension, which tells of formats without a header. `track`, `longest`
    and `check` are those of `load_audio`, which says what is raised.
    """
    from speechprune_cli.audio import label_of, load_audio

    label = label_of(name)
    with TemporaryDirectory() as folder:
        kind = re.fullmatch(r".*(\.\w{1,9})", label, re.ASCII | re.DOTALL)
        path = Path(folder) / f"recording{kind[1] if kind else ''}"
        with path.open("wb") as copy:
            try:
                shutil.copyfileobj(file, copy)
            except TypeError:
                raise TypeError(f"{label}: open the file in binary mode") from None
        try:
            audio = load_audio(path, track, longest, check)
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


def _of_samples(samples: np.ndarray, rate: Any) -> Audio:
    """Mixed down as those of a file are."""
    if rate is None:
        raise UsageError("samples need their rate: encode(samples, sample_rate=16000)")
    is_number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not is_number or not LOWEST_RATE <= float(rate) < HIGHEST_RATE or rate != int(rate):
        whole = f"give whole samples per second, as 16000, {LOWEST_RATE:,} at least"
        raise UsageError(f"sample_rate is {rate!r}: {whole}")
    sound, channels = Mixdown(ARRAY), _by_channel(samples)
    if not samples.size:
        raise AudioError(f"{ARRAY}: holds no samples")
    blocks = (channels[i : i + BLOCK_FRAMES] for i in range(0, len(channels), BLOCK_FRAMES))
    sound.add((_scaled(block), int(rate)) for block in blocks)
    heard, seconds = sound.samples(), float(sound.seconds)
    warnings = tuple(f"{ARRAY}: {line}" for line in sound.doubts(heard))
    name = f"{seconds:.1f} s of samples"
    return Audio(heard, name, "", int(rate), sound.channels, seconds, warnings)


def _by_channel(samples: np.ndarray) -> np.ndarray:
    """As `[T, channels]`."""
    if samples.ndim not in (1, 2):
        expected = "[T], [T, channels] or [channels, T]"
        raise UsageError(f"samples of shape {samples.shape}: give {expected}")
    if samples.dtype.kind not in "iuf":
        raise TypeError(f"samples of the type {samples.dtype}: give floats or integers")
    if samples.ndim == 1:
        return samples[:, None]
    if min(samples.shape) > MOST_CHANNELS:
        raise UsageError(f"samples of shape {samples.shape}: which of the two are channels?")
    return samples if samples.shape[1] < samples.shape[0] else samples.T


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Float32, integers divided by what their type holds."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = scale if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - middle) / scale).astype(np.float32)
