"""Writes recordings as a benchmark in the format of `jsonl`: an index beside sound files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

from speechprune_cli.atomic import atomic
from speechprune_cli.audio import write_audio
from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.builder.recording import Recording

OPUS_BITS = 16_000
"""Per second: speech stays clear, 90 s take 180 kB."""


def publish(recordings: Iterable[Recording], folder: Path, *, opus: bool = False) -> int:
    """Write `folder/<number>.flac` (or .opus) and `folder/index.jsonl`; the number of questions."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, recording in enumerate(recordings):
        name = f"{number:03d}.{'opus' if opus else 'flac'}"
        save_sound(folder / name, recording.samples, SAMPLE_RATE)
        rows += [
            {
                "id": f"{number:03d}-{place}",
                "audio": name,
                "question": question.text,
                "options": list(question.options),
                "answer": question.answer,
                "key": [round(question.start, 2), round(question.end, 2)],
                "transcript": " ".join(recording.texts),
                "group": recording.scenario,
            }
            for place, question in enumerate(recording.questions)
        ]
    with atomic(folder / "index.jsonl") as path:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows)


def save_sound(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write float32 samples `[T]` as the extension says; the folder is made where it is missing.

    Ogg Opus comes at `OPUS_BITS`: libsndfile writes Opus too, but at no chosen rate. Raises
    SpeechPruneError where the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechPruneError(f"cannot write {path.parent}: {error.strerror}") from error
    if path.suffix != ".opus":
        write_audio(path, samples, rate)
        return
    with atomic(path) as target, av.open(target, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=rate, layout="mono")
        stream.bit_rate = OPUS_BITS
        stream.options = {"application": "voip"}
        pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
