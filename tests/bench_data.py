"""A small benchmark of one's own (tones, questions of every kind), and how any is read and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from conftest import make_audio
from recordings import voice

from speechprune_cli.bench.tasks import load_task
from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main

SAME = {
    "question": "When is the report due?",
    "options": ["on Friday", "in the red\u2028house", "never", "The report is due."],
    "answer": "never",
}
RECORDS = [
    {"id": "short", "audio": "short.wav", **SAME},
    {
        "id": "two",
        "audio": "short.wav",
        "question": "Who?",
        "options": ["Friday", "the house"],
        "answer": "B",
    },
    {"id": "long", "audio": "long.wav", **SAME, "key": [30, 33], "transcript": "Never on Friday."},
    {"id": "as long", "audio": "other.wav", **SAME, "key": [2, 5]},
    {"id": "öffen", "audio": "short.wav", "question": "Where is it?", "answer": "in the house"},
]
SECONDS = {"short.wav": 3, "long.wav": 34, "other.wav": 34}
REFERENCES = ["full", "original", "silence"]


def write_benchmark(folder: Path, *ids: str) -> Path:
    """The index file, beside the recordings that it names; all records, or some."""
    records = [record for record in RECORDS if not ids or record["id"] in ids]
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        if any(record["audio"] == name for record in records):
            samples = make_audio(seconds, seed).samples
            soundfile.write(folder / name, samples, SAMPLE_RATE, subtype="FLOAT")
    index = folder / "index.jsonl"
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    index.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return index


def read_lines(folder: Path) -> list[dict]:
    """The lines of a run, every one of them whole."""
    content = (folder / "lines.jsonl").read_text(encoding="utf-8")
    assert content.endswith("\n")
    return [json.loads(line) for line in content[:-1].split("\n")]


def answers(lines) -> dict:
    """What lines say, timings aside, by sample and condition."""
    keyed = {(line["sample"], line["condition"]): line for line in lines}
    assert len(keyed) == len(lines), "nothing is asked twice"
    return {
        key: {
            name: value
            for name, value in line.items()
            if not name.endswith("_seconds") and name != "check"
        }
        for key, line in keyed.items()
    }


def write_wav(path: Path, seconds: float = 2.0, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, voice(seconds, rate), rate)
    return path


def refused(kind: type[SpeechPruneError], name: str, data: Path | None) -> str:
    """The line with which a benchmark is refused."""
    with pytest.raises(kind) as caught:
        load_task(name, data, offline=True)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def evaluated(capsys, name: str, data: Path, folder: Path) -> dict:
    """The table of a run of the model in the package, one sample under five conditions."""
    chosen = ["--method", "cue", "--method", "uniform", "--keep", "50%", "--limit", "1"]
    where = ["--data", str(data), "-m", "nano", "-o", str(folder), "--no-cache", "--json"]
    assert main(["eval", name, *chosen, *where]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)
