"""Files that a command writes: checked before the work, complete or not there at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.atomic import atomic
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.escaping import json_text

if TYPE_CHECKING:
    import numpy as np

    from speechprune_cli.flow import Audio, AudioTokens, Selection


def check_destination(path: Path | None, option: str, extensions: tuple[str, ...]) -> None:
    """UsageError unless `path` is a file that can be written and ends in one of `extensions`."""
    if path is None:
        return
    if path.suffix.lower() not in extensions:
        known = ", ".join(extensions)
        raise UsageError(f"{option} {path}: the name has to end in {known}")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UsageError(f"{option} {path}: that is a folder")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{option} {path}: the folder {path.parent} cannot be written to")


def save_selection(
    path: Path, tokens: AudioTokens, selection: Selection, provenance: dict[str, Any]
) -> None:
    """Write what was retained as safetensors. Raises `SpeechPruneError`.

    `embeds [k, D]`, `indices [k]`, `times [k, 2]` in seconds, and `scores [N]` of all tokens;
    `provenance` goes into the metadata, each value as JSON.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    kept = selection.kept.cpu()
    tensors = {
        "embeds": selection.apply(tokens).cpu().contiguous(),
        "indices": kept.contiguous(),
        "times": tokens.times.cpu()[kept].contiguous(),
        "scores": selection.scores.cpu().contiguous(),
    }
    metadata = {key: json_text(value) for key, value in provenance.items()}
    with atomic(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:  # how safetensors says that the disk is full
            raise SpeechPruneError(f"cannot write {path}: {error}") from error


def spans(tokens: AudioTokens, selection: Selection) -> list[tuple[float, float]]:
    """Start and end, in seconds, of each run of retained tokens."""
    import numpy as np

    kept = selection.kept.numpy()
    if not len(kept):
        return []
    runs = np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1)
    return [(float(tokens.times[run[0], 0]), float(tokens.times[run[-1], 1])) for run in runs]


def excerpt(audio: Audio, runs: list[tuple[float, float]]) -> np.ndarray:
    """The given spans of a recording, one after the other, float32 `[T]`.

    Each is faded in and out over 4 ms, since hard cuts click.
    """
    import numpy as np

    from speechprune_cli.flow import SAMPLE_RATE

    pieces = []
    for start, end in runs:
        piece = audio.samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)].copy()
        fade = min(SAMPLE_RATE * 4 // 1000, len(piece) // 2)
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        piece[:fade] *= ramp
        piece[len(piece) - fade :] *= ramp[::-1]
        pieces.append(piece)
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
