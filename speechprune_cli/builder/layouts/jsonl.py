"""The layout of the benchmark `jsonl`: `index.jsonl` beside a folder `audio`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speechprune_cli.builder.layouts.base import Layout
from speechprune_cli.builder.script import Sample


@dataclass(frozen=True)
class Jsonl(Layout):
    """The format is told in `bench/tasks/jsonl.py`."""

    index = "index.jsonl"
    evaluation = "speechprune eval jsonl --data {folder}"

    def audio(self, sample: Sample, suffix: str) -> str:
        """Numbered."""
        return f"audio/{sample.brief.number:03d}.{suffix}"

    def line(self, sample: Sample, suffix: str) -> dict[str, Any]:
        """With the times of the answering sentence, and the scenario as its group."""
        script, speech = sample.script, sample.speech
        return {
            "id": sample.brief.id,
            "audio": self.audio(sample, suffix),
            "question": script.question,
            "options": list(script.options),
            "answer": script.answer,
            "key": list(speech.key_span(script)) if speech else None,
            "transcript": script.transcript,
            "group": sample.brief.scenario,
        }
