"""SPIRAL's own layout: `data.jsonl`, `spiral/wavs`, and the answering sentences in `key_wavs`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from speechprune_cli.builder.publish import save_sound
from speechprune_cli.builder.script import Sample, Script, Speech

INDEX = "data.jsonl"
EVAL = "speechprune eval spiral --data {folder}"
WAVS, KEYS = "spiral/wavs", "spiral/key_wavs"


def audio(sample: Sample, suffix: str) -> str:
    """Path of the recording, from the build's folder."""
    return f"{WAVS}/{sample.brief.id}.{suffix}"


def save(folder: Path, name: str, samples: np.ndarray, script: Script, speech: Speech) -> None:
    """Write the answering sentence by itself as it sounds in the recording, then the recording."""
    start, end = speech.spans[script.key]
    stem = Path(name).stem
    save_sound(folder / KEYS / _key_file(stem, script), samples[start:end], speech.rate)
    save_sound(folder / name, samples, speech.rate)


def line(sample: Sample, suffix: str) -> dict[str, Any]:
    """The sample as a record of `data.jsonl`, its keys those of the published one."""
    script, brief = sample.script, sample.brief
    turns = groupby(script.lines, key=lambda each: each.speaker)
    choices = [f"{'ABCD'[place]}. {option}" for place, option in enumerate(script.options)]
    key = script.lines[script.key]
    return {
        "transcript": [
            {"speaker": speaker, "text": [each.text for each in said]} for speaker, said in turns
        ],
        "original_key_sentence": key.text,
        "test_question": {
            "question": script.question,
            "choices": choices,
            "correct_answer": choices[script.letter],
        },
        "metadata": {
            "main_topic": brief.topic,
            "subtopic": brief.subtopic,
            "transcript_type": brief.scenario,
            "id": brief.id,
        },
        "audio_data": {
            "key_sentences": {
                "speaker": key.speaker,
                "text": key.text,
                "audio_file": _key_file(brief.id, script),
                "indices": [script.key, script.key + 1],
                "audio_dir": KEYS,
            },
            "combined": {
                "audio_files": [f"{brief.id}.{suffix}"],
                "audio_folder": WAVS,
                "prompts_used": dict(sample.speech.voices) if sample.speech else {},
                "sentences": [each.text for each in script.lines],
            },
        },
    }


def _key_file(name: str, script: Script) -> str:
    return f"{name}_{script.lines[script.key].speaker}_key.wav"
