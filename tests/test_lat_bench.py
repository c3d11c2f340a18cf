"""LAT-Bench's spans: lines as published, and what is wrong with others; nothing is asked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bench_data import evaluated, refused, write_wav

from speechprune_cli.bench.tasks import load_task
from speechprune_cli.errors import AudioError, UsageError
from speechprune_cli.main import main


def grounding(audio: str = "s1", span: str = "[00:01-00:03]", query: str = "When is it?") -> dict:
    """A line in the published layout."""
    contents = {"user": f"<audio>{query}", "assistant": span}
    messages = [{"role": role, "content": content} for role, content in contents.items()]
    return {"messages": messages, "audios": [audio]}


def write_lat(folder: Path, *lines: dict, language: str = "EN") -> Path:
    """Its folder, with a recording `s1` of 4 s."""
    write_wav(folder / "audio" / "s1.wav", 4)
    path = folder / "task" / f"bench-{language}-TAG.jsonl"
    path.parent.mkdir(exist_ok=True)
    texts = (json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def test_a_line_of_lat_bench_is_a_span_and_no_question(tmp_path):
    far = grounding("/data/cuts/s2.mp3", "It is at [00:02 - 12:30].")
    write_lat(tmp_path, grounding(), far)
    write_lat(tmp_path, grounding("s1.wav", "[0:00-0:02]", "何时？"), language="CN")
    (tmp_path / "audio" / "s2.mp3").write_bytes(b"compressed")
    benchmark = load_task("lat-bench", tmp_path, offline=True)
    chinese, english, other = benchmark.samples
    assert [sample.id for sample in benchmark.samples] == ["CN-1", "EN-1", "EN-2"]
    assert [sample.key_span for sample in benchmark.samples] == [(0, 2), (1, 3), (2, 750)]
    assert {(sample.options, sample.answer) for sample in benchmark.samples} == {((), "")}
    assert (english.question, chinese.question) == ("When is it?", "何时？")
    assert (english.group, chinese.group) == ("EN", "CN")
    assert english.audio == chinese.audio == (tmp_path / "audio" / "s1.wav").resolve()
    assert other.audio.name == "s2.mp3"
    both = load_task("lat-bench", tmp_path, offline=True).fingerprint
    (tmp_path / "task" / "bench-CN-TAG.jsonl").unlink()
    assert load_task("lat-bench", tmp_path, offline=True).fingerprint != both


def test_two_recordings_of_one_id_are_refused(tmp_path):
    write_lat(tmp_path, grounding())
    (tmp_path / "audio" / "s1.mp3").write_bytes(b"compressed")
    assert refused(UsageError, "lat-bench", tmp_path) == (
        f"{tmp_path}/audio: s1.mp3 and s1.wav have the same id: keep one of them"
    )


BAD_SPANS = {
    "no span": ({"span": "somewhere"}, r"messages.1.content is 'somewhere': give a span such as"),
    "hours": ({"span": "0:00:01-0:00:03"}, "messages.1.content is '0:00:01-0:00:03': give a span"),
    "reversed": ({"span": "[00:03-00:01]"}, "messages.1.content: the key sentence cannot last fr"),
    "empty": ({"span": "[00:01-00:01]"}, "messages.1.content: the key sentence cannot last from"),
    "beyond": (
        {"span": "[00:01-00:09]"},
        r"messages.1.content: the key sentence ends at 9 s, s1.wav at 4\.00 s",
    ),
    "no query": ({"query": "", "span": ""}, "messages.1.content is '': string should have at"),
}


@pytest.mark.parametrize("name", BAD_SPANS)
def test_a_bad_span_is_named(tmp_path, name):
    changes, message = BAD_SPANS[name]
    path = write_lat(tmp_path, grounding(), grounding(**changes))
    assert re.match(f"{path}:2: {message}", refused(UsageError, "lat-bench", tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audios": []}, "audios: tuple should have at least 1 item"),
        ({"audios": "s1"}, "audios is 's1': input should be a valid array"),
        ({"audios": [".."]}, r"audios.0: the path 'audio/\.\.' leads out of"),
        ({"messages": grounding()["messages"][:1]}, "messages: tuple should have at least 2"),
        ({"messages": [{"role": "user"}] * 2}, "the key 'messages.0.content' is missing"),
    ],
)
def test_a_bad_line_of_lat_bench_is_named(tmp_path, changes, message):
    path = write_lat(tmp_path, {**grounding(), **changes})
    assert re.match(f"{path}:1: {message}", refused(UsageError, "lat-bench", tmp_path))


def test_a_recording_of_lat_bench_cannot_lie_outside_its_folder(tmp_path):
    write_lat(tmp_path / "set", grounding(), grounding("../../secret.wav"))
    secret = write_wav(tmp_path / "secret.wav", 4)
    _, sample = load_task("lat-bench", tmp_path / "set", offline=True).samples
    assert not sample.audio.exists(), "only the name of the recording counts"
    (tmp_path / "set" / "audio" / "secret.wav").symlink_to(secret)
    assert "leads out of" in refused(UsageError, "lat-bench", tmp_path / "set")


def test_where_lat_bench_comes_from_is_said_where_it_is_missing(tmp_path):
    for line in (
        refused(UsageError, "lat-bench", None),
        refused(UsageError, "lat-bench", tmp_path),
    ):
        assert "https://huggingface.co/datasets/mcshao/LAT-Bench" in line
        assert "audio/ID.wav" in line
    write_lat(tmp_path, grounding("gone"))
    line = refused(AudioError, "lat-bench", tmp_path)
    assert "audio/gone: none of the 1 recordings is there: put task and meta of" in line


def test_of_spans_only_what_is_kept_is_told(tmp_path, capsys):
    write_lat(tmp_path / "data", grounding())
    table = evaluated(capsys, "lat-bench", tmp_path / "data", tmp_path / "run")
    rows = {row["condition"]: row for row in table["rows"]}
    assert rows["full"]["recall"] == 1
    assert rows["uniform 50%"]["recall"] == pytest.approx(0.5, abs=0.1)
    assert rows["silence"]["recall"] is None
    for row in rows.values():
        assert (row["n"], row["errors"]) == (1, 0)
        assert {row[key] for key in ("accuracy", "low", "f1", "p_full", "prefill_seconds")} == {
            None
        }
    assert "nothing is asked: what counts is whether the span is kept" in table["caption"]
    lines = (tmp_path / "run" / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["answers"] == [] for line in lines)
    assert main(["eval", "--resume", str(tmp_path / "run"), "--derive-hard", "--quiet"]) == 0
    assert (tmp_path / "run" / "lines.jsonl").read_text(encoding="utf-8").splitlines() == lines
    assert (tmp_path / "run" / "hard.txt").read_text(encoding="utf-8").split() == []
