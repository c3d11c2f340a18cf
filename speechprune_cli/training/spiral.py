"""Speaks records in SPIRAL's published format, and puts the wavs where its loader wants them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import soxr

from speechprune_cli.audio import write_audio
from speechprune_cli.flow import SAMPLE_RATE

if TYPE_CHECKING:
    from speechprune_cli.builder.speakers.base import Synthesizer

PAUSE = (0.15, 0.6)
"""Shortest and longest silence after a sentence, in seconds."""


def speak_records(index: Path, engine: Synthesizer, voices: Iterable[str], folder: Path) -> int:
    """Write `folder/data.jsonl`, `spiral/wavs` and `spiral/key_wavs`; the number of records.

    Every speaker of a record keeps one of `voices`. What is spoken already is left as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(index, folder / "data.jsonl")
    records = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    for record in records:
        combined, key = (record["audio_data"][part] for part in ("combined", "key_sentences"))
        target = folder / combined["audio_folder"] / combined["audio_files"][0]
        if target.exists():
            continue
        rng = Random(record["metadata"]["id"])
        parts = _parts(record, engine, sorted(voices), rng)
        first, last = key["indices"]
        excerpt = folder / key["audio_dir"] / key["audio_file"]
        for path, sound in ((excerpt, parts[first:last]), (target, parts)):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, np.concatenate(sound), SAMPLE_RATE)
    return len(records)


def _parts(record: dict, engine: Synthesizer, voices: list[str], rng: Random) -> list[np.ndarray]:
    """Each sentence with the pause after it."""
    speakers = [(turn["speaker"], " ".join(turn["text"])) for turn in record["transcript"]]
    names = sorted({speaker for speaker, _ in speakers})
    chosen = dict(zip(names, rng.sample(voices * len(names), len(names)), strict=True))
    parts = []
    for sentence in record["audio_data"]["combined"]["sentences"]:
        speaker = next((name for name, said in speakers if sentence in said), names[0])
        samples, rate = engine.say(sentence, chosen[speaker], 1.0)
        pause = np.zeros(int(rng.uniform(*PAUSE) * SAMPLE_RATE), np.float32)
        parts += [np.concatenate([soxr.resample(samples, rate, SAMPLE_RATE), pause])]
    return parts
