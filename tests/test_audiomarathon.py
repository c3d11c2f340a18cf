"""AudioMarathon's questions of RACE: its index as published, and what is wrong with others."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import soundfile
from bench_data import evaluated, refused, write_wav

from speechprune_cli.bench.tasks import load_task
from speechprune_cli.errors import AudioError, ModelError, UsageError

RACE = {
    "article_id": "high1",
    "question_idx": 0,
    "audio_path": "audio/high/high1.wav",
    "question": "What did Ann buy?",
    "options": ["A hat", "A coat", "A pen", "Nothing"],
    "answer": "B",
}


def write_race(folder: Path, *records: dict, sound: bool = True) -> Path:
    """An index in the published layout; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "race_benchmark.json").write_text(json.dumps(records), encoding="utf-8")
    for record in records if sound else ():
        write_wav(folder / record["audio_path"], 3)
    return folder


@pytest.mark.parametrize("where", [".", "Race/race_audio"])
def test_records_of_race_with_their_letters(tmp_path, where):
    other = {**RACE, "audio_path": "audio/middle/m.wav", "answer": "D"}
    folder = write_race(tmp_path / where, RACE, other)
    benchmark = load_task("audiomarathon-race", tmp_path, offline=True)
    first, second = benchmark.samples
    assert (benchmark.source, benchmark.name) == (
        str(folder / "race_benchmark.json"),
        "audiomarathon-race",
    )
    assert (first.id, first.question) == ("race-0000", "What did Ann buy?")
    assert first.options == ("A hat", "A coat", "A pen", "Nothing")
    assert (first.answer, second.answer) == ("A coat", "Nothing")
    assert (first.group, second.group) == ("high", "middle")
    assert first.audio == (folder / "audio/high/high1.wav").resolve()
    assert (first.key_span, first.transcript) == (None, None)


BAD_RACE = {
    "unknown letter": ({"answer": "E"}, ", record 1: answer is 'E': give one of A, B, C, D"),
    "text": ({"answer": "A coat"}, ", record 1: answer is 'A coat': give one of A, B, C, D"),
    "number": ({"answer": 1}, ": 1.answer is 1: input should be a valid string"),
    "options as text": ({"options": "A, B"}, ": 1.options is 'A, B': input should be a valid arr"),
    "equal options": ({"options": ["x", "x"]}, ", record 1: the option 'x' occurs twice"),
    "one option": ({"options": ["x"]}, ": 1.options: .* should have at least 2 items"),
    "no question": ({"question": " "}, ": 1.question is ' ': string should have at least 1"),
    "outside": (
        {"audio_path": "../a.wav"},
        r", record 1: audio_path: the path '\.\./a.wav' leads out of",
    ),
    "absolute": (
        {"audio_path": "/etc/passwd"},
        ", record 1: audio_path: the path '/etc/passwd' leads out of",
    ),
}


@pytest.mark.parametrize("name", BAD_RACE)
def test_a_bad_record_of_race_is_named(tmp_path, name):
    changes, message = BAD_RACE[name]
    write_race(tmp_path, RACE, {**RACE, **changes}, sound=False)
    line = refused(UsageError, "audiomarathon-race", tmp_path)
    assert re.match(f"{tmp_path}/race_benchmark.json{message}", line)


def test_an_index_of_race_that_is_none(tmp_path):
    assert refused(UsageError, "audiomarathon-race", tmp_path) == (
        f"{tmp_path}: there is no race_benchmark.json, as in "
        "https://huggingface.co/datasets/Hezep/AudioMarathon"
    )
    index = write_race(tmp_path) / "race_benchmark.json"
    assert refused(UsageError, "audiomarathon-race", tmp_path) == f"{index}: holds no samples"
    for text, message in {
        "[{]": "not JSON (",
        "{}": "it: input should be a valid array",
        '[{"question": "?"}]': "the key '0.audio_path' is missing",
        "[" * 100_000: "not JSON (recursion limit",
    }.items():
        index.write_text(text)
        line = refused(UsageError, "audiomarathon-race", tmp_path)
        assert line.startswith(f"{index}: {message}")
    write_race(tmp_path, RACE, sound=False)
    line = refused(AudioError, "audiomarathon-race", tmp_path)
    assert "high1.wav: none of the 1 recordings is there: paths count from" in line


def test_of_two_indices_of_race_none_is_taken(tmp_path):
    for part in ("Race/new", "Race/old"):
        write_race(tmp_path / part, RACE)
    assert refused(UsageError, "audiomarathon-race", tmp_path) == (
        f"{tmp_path}: race_benchmark.json is in Race/new and Race/old: name one folder with --data"
    )


@pytest.mark.parametrize("where", [".", "Race", "Race/race_audio"])
def test_all_beside_the_index_of_race_is_fetched_from_the_hub(tmp_path, monkeypatch, where):
    """Patterns match as in the Hub's library; other benchmarks in the repository stay there."""
    from huggingface_hub.utils import filter_repo_objects

    published = tmp_path / "published"
    write_wav(published / "Other" / "a.wav", 1)
    write_race(published / where, RACE)
    fetched = tmp_path / "repo" / "snapshots" / "ab"

    def snapshot_download(hub_id, *, allow_patterns, **_):
        paths = [p.relative_to(published) for p in published.rglob("*") if p.is_file()]
        for path in filter_repo_objects(paths, allow_patterns=allow_patterns, key=str):
            (fetched / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(published / path, fetched / path)
        return str(fetched)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    [sample] = load_task("audiomarathon-race", None, offline=True).samples
    assert sample.audio == fetched / where / "audio/high/high1.wav"
    assert (fetched / "Other").exists() == (where == ".")


def test_race_from_the_hub_as_downloaded_before(tmp_path, monkeypatch):
    """The Hub's library keeps the content apart, and links to it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    line = refused(ModelError, "audiomarathon-race", None)
    assert line.startswith("Hezep/AudioMarathon is not on this machine and --offline is on: ")
    assert line.endswith("or give its folder with --data")
    repo, commit = tmp_path / "hub" / "datasets--Hezep--AudioMarathon", "0af5" * 10
    snapshot, blobs = repo / "snapshots" / commit, repo / "blobs"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    folder = write_race(snapshot / "Race" / "race_audio", RACE, {**RACE, "audio_path": "b.wav"})
    blobs.mkdir()
    (folder / "b.wav").rename(blobs / "0123")
    (folder / "b.wav").symlink_to("../../../../blobs/0123")
    benchmark = load_task("audiomarathon-race", None, offline=True)
    assert benchmark.source == f"Hezep/AudioMarathon@{commit}"
    assert all(soundfile.info(sample.audio).duration == 3 for sample in benchmark.samples)
    (folder / "b.wav").unlink()
    (folder / "b.wav").symlink_to(write_wav(tmp_path / "elsewhere.wav"))
    assert "leads out of" in refused(UsageError, "audiomarathon-race", None)


@pytest.mark.slow
def test_race_is_asked_by_letter_or_text(tmp_path, capsys):
    table = evaluated(
        capsys, "audiomarathon-race", write_race(tmp_path / "data", RACE), tmp_path / "run"
    )
    assert {row["n"] for row in table["rows"]} == {1}
    assert all(row["accuracy"] in (0, 1) and row["recall"] is None for row in table["rows"])
