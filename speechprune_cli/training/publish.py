"""Writes recordings as a benchmark in the format of `jsonl`: an index beside sound files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from speechprune_cli.atomic import atomic
from speechprune_cli.builder.sound import save_sound
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.training.splicing import SplicedRecording


def publish(recordings: Iterable[SplicedRecording], folder: Path, *, opus: bool = False) -> int:
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
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(lines, encoding="utf-8")
    return len(rows)
