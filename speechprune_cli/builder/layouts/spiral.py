"""SPIRAL's own layout: `data.jsonl`, `spiral/wavs`, and the answering sentences in `key_wavs`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from speechprune_cli.builder.layouts.base import Layout
from speechprune_cli.builder.script import LETTERS, Sample, Script, Speech
from speechprune_cli.builder.sound import save_sound

WAVS, KEYS = "spiral/wavs", "spiral/key_wavs"


@dataclass(frozen=True)
class Spiral(Layout):
    """As the data set was published, its keys and file names alike."""

    index = "data.jsonl"
    evaluation = "speechprune eval spiral --data {folder}"
    formats = ("wav",)

    def audio(self, sample: Sample, suffix: str) -> str:
        """Named like the sample."""
        return f"{WAVS}/{sample.brief.id}.{suffix}"

    def save(
        self, folder: Path, name: str, samples: np.ndarray, script: Script, speech: Speech
    ) -> None:
        """The answering sentence by itself as it sounds in the recording, then the recording."""
        start, end = speech.spans[script.key]
        stem = Path(name).stem
        save_sound(folder / KEYS / _key_file(stem, script), samples[start:end], speech.rate)
        super().save(folder, name, samples, script, speech)

    def line(self, sample: Sample, suffix: str) -> dict[str, Any]:
        """A record with the keys of the published ones."""
        script, brief, name = sample.script, sample.brief, sample.brief.id
        key = script.utterances[script.key]
        turns = groupby(script.utterances, key=lambda each: each.speaker)
        choices = [f"{LETTERS[place]}. {option}" for place, option in enumerate(script.options)]
        return {
            "transcript": [
                {"speaker": speaker, "text": [each.text for each in said]}
                for speaker, said in turns
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
                "id": name,
            },
            "audio_data": {
                "key_sentences": {
                    "speaker": key.speaker,
                    "text": key.text,
                    "audio_file": _key_file(name, script),
                    "indices": [script.key, script.key + 1],
                    "audio_dir": KEYS,
                },
                "combined": {
                    "audio_files": [f"{name}.{suffix}"],
                    "audio_folder": WAVS,
                    "prompts_used": dict(sample.speech.voices) if sample.speech else {},
                    "sentences": [each.text for each in script.utterances],
                },
            },
        }


def _key_file(name: str, script: Script) -> str:
    return f"{name}_{script.utterances[script.key].speaker}_key.wav"
