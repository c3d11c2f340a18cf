"""The layout of the benchmark `jsonl`: `index.jsonl` beside a folder `audio`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from speechprune_cli.builder.publish import save_sound
from speechprune_cli.builder.script import Sample, Script, Speech

INDEX = "index.jsonl"
EVAL = "speechprune eval jsonl --data {folder}"


def audio(sample: Sample, suffix: str) -> str:
    """Path of the recording, from the build's folder."""
    return f"audio/{sample.brief.number:03d}.{suffix}"


def save(folder: Path, name: str, samples: np.ndarray, script: Script, speech: Speech) -> None:
    """Write the recording."""
    save_sound(folder / name, samples, speech.rate)


def line(sample: Sample, suffix: str) -> dict[str, Any]:
    """The sample as a line of the index (the format is told in `bench/tasks/jsonl.py`)."""
    script, speech = sample.script, sample.speech
    return {
        "id": sample.brief.id,
        "audio": audio(sample, suffix),
        "question": script.question,
        "options": list(script.options),
        "answer": script.answer,
        "key": list(speech.key_span(script)) if speech else None,
        "transcript": script.transcript,
        "group": sample.brief.scenario,
    }
