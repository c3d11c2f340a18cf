"""Benchmarks: real files are read, bad ones are one clear line each."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from bench_data import refused, write_wav

from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.bench.tasks import TASKS, _spiral, load_task, spiral_nano
from speechprune_cli.bench.tasks._excerpt import find_excerpt
from speechprune_cli.bench.tasks.base import Task
from speechprune_cli.errors import AudioError, ModelError, SpeechPruneError, UsageError

SPIRAL_SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "spiral_sample.jsonl"
LINE = {"audio": "a.wav", "question": "Which?", "answer": "the red one"}
CHOICE = {**LINE, "options": ["the blue one", "the red one"]}
ROW = {
    "instruction": "What will the woman do?",
    "choices": "(A) Swim.\n(B) Read a\nlong book.\n(C) Sleep.",
    "answer": "(B) Read a long book.",
}


def write_jsonl(folder: Path, *lines: dict | str) -> Path:
    """An index `own.jsonl` beside a recording `a.wav`."""
    write_wav(folder / "a.wav")
    path = folder / "own.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def spiral_record(name: str = "lecture_7", **changes) -> dict:
    """A record in the published layout; `changes` replace parts by the names of their keys."""
    sentences = ["Hello all.", "The code is seven two nine.", "Thank you."]
    question = {
        "question": "What is the code?",
        "choices": ["A. 729", "B. 119", "C. 7", "D. A. 9"],
        "correct_answer": "A. 729",
    }
    key = {
        "speaker": "spk_1",
        "text": "so, the code is 7 2 9",
        "audio_file": f"{name}_spk_1_key.wav",
        "indices": [1, 2],
        "audio_dir": "spiral/key_wavs",
    }
    combined = {
        "audio_files": [f"{name}.wav"],
        "audio_folder": "spiral/wavs",
        "prompts_used": {},
        "sentences": sentences,
    }
    for part in (question, key, combined):
        part.update({name: value for name, value in changes.items() if name in part})
    return {
        "transcript": [{"speaker": "spk_1", "text": sentences}],
        "original_key_sentence": sentences[1],
        "test_question": question,
        "metadata": {"main_topic": "x", "transcript_type": "lecture", "id": name},
        "audio_data": {"key_sentences": key, "combined": combined},
    }


def write_spiral(folder: Path, *records: dict, index: str = "data.jsonl", sound: bool = True):
    path = folder / index
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for record in records if sound else ():
        speak(folder, record)
    return folder


def speak(folder: Path, record: dict, rate: int = 24000) -> tuple[float, float]:
    """Noises instead of sentences, the key sentence's also by itself, where a record wants them.

    Gives the times of the key sentence.
    """
    combined, key = record["audio_data"]["combined"], record["audio_data"]["key_sentences"]
    rng = np.random.default_rng(len(record["metadata"]["id"]))
    lengths = [rate * len(text) // 20 + 7 for text in combined["sentences"]]
    spoken = [np.convolve(rng.normal(0, 0.1, n), np.ones(9) / 9, "same") for n in lengths]
    first, last = key["indices"]
    files = {
        Path(combined["audio_folder"], combined["audio_files"][0]): np.concatenate(spoken) * 0.6,
        Path(key["audio_dir"], key["audio_file"]): np.concatenate(spoken[first:last]),
    }
    for name, samples in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, samples, rate)
    return sum(lengths[:first]) / rate, sum(lengths[:last]) / rate


def write_parquet(path: Path, *rows: dict, **columns: list) -> Path:
    """Rows as in AudioBench, each with a recording of its own where it brings none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        wav = write_wav(path.parent / "row.wav", 1 + number / 10)
        row.setdefault("context", {"bytes": wav.read_bytes(), "path": f"{number}.wav"})
    table = pyarrow.Table.from_pylist(list(rows)) if rows else pyarrow.table(columns)
    pyarrow.parquet.write_table(table, path)
    return path


# --- the registry


def test_every_benchmark_is_found_by_its_name():
    shipped = {
        *("audiomarathon-race", "cn-college-listen", "dream-tts", "jsonl", "lat-bench"),
        *("spiral", "spiral-h", "spiral-nano"),
    }
    assert shipped <= set(TASKS.names)


def test_an_unknown_benchmark_lists_the_known_ones():
    assert refused(UsageError, "spirals", None) == (
        "unknown benchmark 'spirals' (do you mean spiral?): choose from " + ", ".join(TASKS.names)
    )


def test_the_list_of_benchmarks_imports_nothing_heavy():
    code = (
        "import sys; from speechprune_cli.bench.tasks import TASKS; "
        "print({'numpy', 'torch', 'pyarrow', 'soundfile', 'huggingface_hub'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


# --- jsonl


def test_a_full_line_and_a_short_one(tmp_path):
    full = {
        **CHOICE,
        "id": "talk",
        "key": [0.5, 2],
        "transcript": "Take the red one.",
        "group": "talk",
    }
    path = write_jsonl(tmp_path, full, "", LINE)
    benchmark = load_task("jsonl", path, offline=True)
    closed, open_question = benchmark.samples
    assert (benchmark.name, benchmark.source) == ("jsonl", str(path))
    assert (benchmark.min_seconds, benchmark.published) == (0.0, {})
    assert (closed.id, closed.audio) == ("talk", (tmp_path / "a.wav").resolve())
    assert (closed.question, closed.answer) == ("Which?", "the red one")
    assert closed.options == ("the blue one", "the red one")
    assert (closed.key_span, closed.transcript, closed.group) == (
        (0.5, 2.0),
        "Take the red one.",
        "talk",
    )
    assert (open_question.id, open_question.options) == ("3", ())
    assert (open_question.key_span, open_question.transcript, open_question.group) == (None,) * 3


@pytest.mark.parametrize(
    ("options", "answer", "expected"),
    [
        (["x", "y", "z"], "C", "z"),
        (["B", "A", "c"], "A", "A"),
        ([" x ", "y"], " x", "x"),
    ],
)
def test_an_answer_may_be_a_letter_but_a_text_wins(tmp_path, options, answer, expected):
    path = write_jsonl(tmp_path, {**LINE, "options": options, "answer": answer})
    assert load_task("jsonl", path, offline=True).samples[0].answer == expected


def test_line_ends_of_other_systems_a_byte_order_mark_and_odd_characters(tmp_path):
    path = write_jsonl(tmp_path)
    text = json.dumps({**LINE, "answer": "one\u2028two\x85"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n" + text.encode())
    samples = load_task("jsonl", path, offline=True).samples
    assert [(s.id, s.answer) for s in samples] == [("1", "one\u2028two"), ("3", "one\u2028two")]


def test_the_fingerprint_is_that_of_the_index(tmp_path):
    first, second = (load_task("jsonl", write_jsonl(tmp_path, LINE), offline=True) for _ in "ab")
    changed = load_task("jsonl", write_jsonl(tmp_path, CHOICE), offline=True)
    assert re.fullmatch("[0-9a-f]{64}", first.fingerprint)
    assert first.fingerprint == second.fingerprint != changed.fingerprint


BAD_LINES = {
    "not JSON": ("{oops", r"not JSON \(key must be a string"),
    "half a line": ('{"audio": "a.wav", "que', r"not JSON \(EOF while parsing"),
    "not an object": ("[1]", "it: input should be an object"),
    "too deep": ("[" * 100_000, r"not JSON \(recursion limit"),
    "missing key": ({"audio": "a.wav", "question": "?"}, "the key 'answer' is missing"),
    "unknown key": ({**LINE, "colour": 1}, "unknown key 'colour': the known ones are audio, quest"),
    "number": ({**LINE, "answer": 7}, "answer is 7: input should be a valid string"),
    "empty question": ({**LINE, "question": " "}, "question is ' ': string should have at least 1"),
    "key of one": ({**LINE, "key": [1]}, "the key 'key.1' is missing"),
    "key of truths": (
        {**LINE, "key": [False, True]},
        "key.0 is False: input should be a valid number",
    ),
    "key of NaN": (
        {**LINE, "key": [float("nan"), 1]},
        "key.0 is nan: input should be a finite number",
    ),
    "key backwards": ({**LINE, "key": [2, 1]}, "the key sentence cannot last from 2 to 1 s"),
    "key before": ({**LINE, "key": [-1, 1]}, "the key sentence cannot last from -1 to 1 s"),
    "key behind": ({**LINE, "key": [1, 9]}, r"the key sentence ends at 9 s, a.wav at 2\.00 s"),
    "no such option": ({**CHOICE, "answer": "E. x"}, "the answer 'E. x' is none of the options"),
    "no such letter": ({**CHOICE, "answer": "C"}, "the answer 'C' is none of the options"),
    "one option": ({**CHOICE, "options": ["x"]}, "1 options: give 2 to 26"),
    "many options": ({**CHOICE, "options": [*map(str, range(27))]}, "27 options: give 2 to 26"),
    "equal options": ({**CHOICE, "options": ["x", "x "]}, "the option 'x' occurs twice"),
    "empty option": (
        {**CHOICE, "options": ["x", ""]},
        "options.1 is '': string should have at least 1",
    ),
    "absolute path": ({**LINE, "audio": "/etc/passwd"}, "the path '/etc/passwd' leads out of"),
    "parent": ({**LINE, "audio": "../a.wav"}, r"the path '\.\./a.wav' leads out of"),
    "parent inside": ({**LINE, "audio": "b/../a.wav"}, r"the path 'b/\.\./a.wav' leads out of"),
    "zero byte": ({**LINE, "audio": "a\0.wav"}, r"the path 'a\\x00.wav' cannot be followed"),
    "long": ({**LINE, "audio": "x" * 5000}, "the path .*x' cannot be followed"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, name):
    line, message = BAD_LINES[name]
    path = write_jsonl(tmp_path, LINE, line)
    assert re.match(rf"{path}:2: ({message})", refused(UsageError, "jsonl", path))


def test_a_bad_line_with_an_id_is_named_by_both(tmp_path):
    path = write_jsonl(tmp_path, {**CHOICE, "id": "talk_3", "answer": "no"})
    assert refused(UsageError, "jsonl", path) == (
        f"{path}:1 (talk_3): the answer 'no' is none of the options"
    )


def test_bytes_that_are_no_text(tmp_path):
    path = write_jsonl(tmp_path, LINE)
    path.write_bytes(path.read_bytes() + b'{"audio": "\xff.wav"}')
    assert refused(UsageError, "jsonl", path).startswith(f"{path}:2: not JSON (")


def test_links_that_lead_out_or_in_a_circle(tmp_path):
    path = write_jsonl(tmp_path / "set", {**LINE, "audio": "link.wav"})
    link = tmp_path / "set" / "link.wav"
    link.symlink_to(write_wav(tmp_path / "secret.wav"))
    assert "the path 'link.wav' leads out of" in refused(UsageError, "jsonl", path)
    link.unlink()
    link.symlink_to(link)
    assert "the path 'link.wav' cannot be followed" in refused(UsageError, "jsonl", path)
    link.unlink()
    link.symlink_to(tmp_path / "set" / "a.wav")
    assert load_task("jsonl", path, offline=True).samples[0].audio.name == "a.wav"


def test_a_folder_that_is_a_link_itself_is_fine(tmp_path):
    write_jsonl(tmp_path / "set", LINE)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert load_task("jsonl", tmp_path / "link" / "own.jsonl", offline=True).samples


def test_equal_ids_name_both_lines(tmp_path):
    path = write_jsonl(tmp_path, {**LINE, "id": "x"}, LINE, {**LINE, "id": "x"})
    assert refused(UsageError, "jsonl", path) == (
        f"{path}:3 (x): the id 'x' is taken by {path}:1 (x)"
    )


def test_an_empty_or_missing_index(tmp_path):
    assert refused(UsageError, "jsonl", None) == "the benchmark jsonl needs --data FILE.jsonl"
    path = write_jsonl(tmp_path, "", " ")
    assert refused(UsageError, "jsonl", path) == f"{path}: holds no samples"
    missing = tmp_path / "no.jsonl"
    assert refused(UsageError, "jsonl", missing) == (
        f"{missing}: cannot be read: No such file or directory"
    )
    assert "cannot be read: Is a directory" in refused(UsageError, "jsonl", tmp_path)


def test_one_missing_recording_is_left_to_the_run_all_of_them_are_not(tmp_path):
    gone = {**LINE, "audio": "gone.wav", "key": [1, 2]}
    path = write_jsonl(tmp_path, LINE, gone)
    assert [s.audio.name for s in load_task("jsonl", path, offline=True).samples] == [
        "a.wav",
        "gone.wav",
    ]
    path = write_jsonl(tmp_path, gone, gone)
    assert refused(AudioError, "jsonl", path) == (
        f"{tmp_path.resolve() / 'gone.wav'}: none of the 1 recordings is there: "
        "paths count from the folder of own.jsonl"
    )


def test_a_key_sentence_in_a_broken_or_compressed_recording_is_not_checked(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF, but no sound")
    (tmp_path / "talk.mp3").write_bytes(b"whatever")
    lines = [{**LINE, "audio": name, "key": [5, 6]} for name in ("broken.wav", "talk.mp3")]
    assert len(load_task("jsonl", write_jsonl(tmp_path, *lines), offline=True).samples) == 2


# --- spiral-nano


def test_spiral_nano_reads_its_own_folder(tmp_path, monkeypatch):
    write_jsonl(tmp_path, {**CHOICE, "key": [0, 1]}).rename(tmp_path / "index.jsonl")
    monkeypatch.setattr(spiral_nano, "FOLDER", tmp_path)
    benchmark = load_task("spiral-nano", None, offline=True)
    assert benchmark.name == "spiral-nano"
    assert benchmark.samples[0].key_span == (0.0, 1.0)


def test_spiral_nano_takes_no_data(tmp_path):
    assert "takes no --data" in refused(UsageError, "spiral-nano", tmp_path)


@pytest.mark.skipif(not spiral_nano.FOLDER.is_dir(), reason="spiral-nano is not there yet")
def test_spiral_nano_as_it_ships_is_complete():
    for sample in load_task("spiral-nano", None, offline=True).samples:
        assert sample.audio.is_file()
        assert len(sample.options) == 4
        assert sample.key_span is not None


# --- spiral, spiral-h


@pytest.mark.parametrize("where", ["data.jsonl", "spiral/data.jsonl"])
def test_a_record_in_the_published_layout(tmp_path, where):
    folder = write_spiral(tmp_path, spiral_record(), index=where)
    benchmark = load_task("spiral", folder, offline=True)
    (sample,) = benchmark.samples
    assert (benchmark.source, benchmark.min_seconds) == (str(tmp_path / where), 0.0)
    assert (sample.id, sample.group, sample.question) == (
        "lecture_7",
        "lecture",
        "What is the code?",
    )
    assert (sample.options, sample.answer) == (("729", "119", "7", "A. 9"), "729")
    assert sample.transcript == "Hello all. The code is seven two nine. Thank you."
    assert sample.audio == tmp_path.resolve() / "spiral" / "wavs" / "lecture_7.wav"
    assert benchmark.published["speechprune 0.2"] == 89.23


def test_choices_without_letters_keep_their_initials(tmp_path):
    choices = ["729", "119", "John F. Kennedy", "9"]
    record = spiral_record(choices=choices, correct_answer="729")
    (sample,) = load_task("spiral", write_spiral(tmp_path, record), offline=True).samples
    assert sample.options == tuple(choices)


def test_spiral_h_has_an_index_of_its_own(tmp_path):
    folder = write_spiral(tmp_path, spiral_record(), index="data_h.jsonl")
    benchmark = load_task("spiral-h", folder, offline=True)
    assert len(benchmark.samples) == 1
    assert benchmark.published["full"] == 43.6
    assert "there is no data.jsonl" in refused(UsageError, "spiral", folder)


def test_the_key_sentence_is_found_in_the_sound(tmp_path):
    record = spiral_record(indices=[1, 3])
    write_spiral(tmp_path, record)
    expected = speak(tmp_path, record)
    (sample,) = load_task("spiral", tmp_path, offline=True).samples
    assert sample.key_span == pytest.approx(expected, abs=0.001)
    assert pickle.loads(pickle.dumps(sample)).key_span == sample.key_span  # noqa: S301
    assert sample.key_span is sample.key_span


@pytest.mark.parametrize("fault", ["missing", "broken", "another sound", "longer", "silent"])
def test_otherwise_its_times_are_estimated(tmp_path, caplog, fault):
    write_spiral(tmp_path, spiral_record())
    (sample,) = load_task("spiral", tmp_path, offline=True).samples
    match fault:
        case "missing":
            sample.key.unlink()
        case "broken":
            sample.key.write_bytes(b"no sound")
        case "another sound":
            write_wav(sample.key, 1.0)
        case "longer":
            write_wav(sample.key, 60.0)
        case "silent":
            soundfile.write(sample.key, np.zeros(8000), 16000)
    _spiral._warn_of_estimates.cache_clear()
    seconds = soundfile.info(sample.audio).duration
    assert sample.key_span == pytest.approx((10 / 47 * seconds, 37 / 47 * seconds), abs=0.001)
    (other,) = load_task("spiral", tmp_path, offline=True).samples
    assert other.key_span == sample.key_span
    assert [r.getMessage().partition(",")[0] for r in caplog.records] == [
        "SPIRAL: where spiral/key_wavs lacks a key sentence"
    ]


def test_the_key_sentence_of_a_missing_recording_is_an_error(tmp_path):
    write_spiral(tmp_path, spiral_record("lecture_1"), spiral_record("lecture_2"))
    first, second = load_task("spiral", tmp_path, offline=True).samples
    first.audio.unlink()
    assert second.key_span is not None
    with pytest.raises(AudioError, match="there is no such file"):
        _ = first.key_span


def test_an_excerpt_is_found_at_either_end_whatever_its_loudness_but_not_in_silence():
    noise = np.random.default_rng(0).normal(0, 0.1, 50_000).astype(np.float32)
    for start in (0, 12_345, 40_000):
        assert find_excerpt(noise, 3 * noise[start : start + 10_000]) == start
    assert find_excerpt(noise, noise) == 0
    assert find_excerpt(np.zeros_like(noise), noise[:100]) is None
    assert find_excerpt(noise, noise[:0]) is None
    quiet = np.concatenate([np.zeros(30_000, np.float32), noise])
    assert find_excerpt(quiet, noise[:9_000]) == 30_000


BAD_RECORDS = {
    "no such answer": (
        spiral_record(correct_answer="E. x"),
        r" \(lecture_7\): the answer 'E. x' is none of the options",
    ),
    "equal options": (
        spiral_record(choices=["A. 729", "B. 729"]),
        r" \(lecture_7\): the option '729' occurs twice",
    ),
    "indices": (
        spiral_record(indices=[2, 9]),
        r" \(lecture_7\): there are 3 sentences, none from 2 to 9",
    ),
    "nothing between": (
        spiral_record(indices=[1, 1]),
        r" \(lecture_7\): there are 3 sentences, none from 1 to 1",
    ),
    "no file": (spiral_record(audio_files=[]), ": audio_data.combined.audio_files: .* at least 1"),
    "recording outside": (
        spiral_record(audio_folder="../wavs"),
        r" \(lecture_7\): the path '\.\./wavs/lecture_7.wav' leads out of",
    ),
    "key outside": (
        spiral_record(audio_dir="/etc"),
        r" \(lecture_7\): the path '/etc/lecture_7_spk_1_key.wav' leads out of",
    ),
    "another format": ({"audio": "a.wav"}, ": the key 'test_question' is missing"),
    "no id": (
        {**spiral_record(), "metadata": {"transcript_type": "x"}},
        ": the key 'metadata.id' is missing",
    ),
    "equal ids": (
        spiral_record("lecture_1"),
        r" \(lecture_1\): the id 'lecture_1' is taken by .*data.jsonl:1 \(lecture_1\)",
    ),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_is_named(tmp_path, name):
    record, message = BAD_RECORDS[name]
    write_spiral(tmp_path, spiral_record("lecture_1"), record, sound=False)
    assert re.match(rf"{tmp_path}/data.jsonl:2{message}", refused(UsageError, "spiral", tmp_path))


def test_where_spiral_comes_from_is_said_where_it_is_missing(tmp_path):
    pages = (_spiral.INDEX_PAGE, _spiral.WAVS_PAGE, "spiral/wavs and spiral/key_wavs")
    line = refused(UsageError, "spiral", None)
    assert all(page in line for page in pages)
    line = refused(UsageError, "spiral-h", tmp_path / "nowhere")
    assert "nowhere: there is no data_h.jsonl: " in line
    assert all(page in line for page in pages)
    write_spiral(tmp_path, spiral_record(), sound=False)
    line = refused(AudioError, "spiral", tmp_path)
    assert "lecture_7.wav: none of the 1 recordings is there: put data.jsonl" in line
    assert all(page in line for page in pages)


@pytest.mark.skipif(not SPIRAL_SAMPLE.is_file(), reason="SPIRAL's records are not here")
def test_published_records(tmp_path):
    records = [json.loads(line) for line in SPIRAL_SAMPLE.read_text().split("\n") if line]
    write_spiral(tmp_path, *records, sound=False)
    expected = speak(tmp_path, records[5])
    samples = load_task("spiral", tmp_path, offline=True).samples
    assert len(samples) == 12
    letters = ["ABCD"[sample.options.index(sample.answer)] for sample in samples]
    assert [letters.count(letter) for letter in "ABCD"] == [1, 7, 4, 0]
    assert {sample.group for sample in samples} == {"lecture", "meeting", "conversation"}
    for sample, record in zip(samples, records, strict=True):
        assert len(sample.options) == 4
        assert not any(re.match(r"[A-D]\.", option) for option in sample.options)
        assert sample.audio.name == f"{sample.id}.wav"
        assert record["test_question"]["correct_answer"].endswith(sample.answer)
    assert samples[5].key_span == pytest.approx(expected, abs=0.001)


# --- dream-tts, cn-college-listen


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "benchmarks"


@pytest.mark.parametrize(
    "where", ["data/test-00000-of-00001.parquet", "test-0.parquet", "data/x.parquet", "x.parquet"]
)
def test_rows_of_a_local_file_or_folder(tmp_path, cache, where):
    path = write_parquet(tmp_path / where, dict(ROW), {**ROW, "answer": "(C)  Sleep. "})
    by_folder = load_task("dream-tts", tmp_path, offline=True)
    by_file = load_task("dream-tts", path, offline=True)
    first, second = by_folder.samples
    assert by_folder.samples == by_file.samples
    assert by_folder.fingerprint == by_file.fingerprint
    assert (by_folder.source, by_folder.min_seconds) == (str(tmp_path), 60.0)
    assert (first.id, second.id) == ("dream-tts-00000", "dream-tts-00001")
    assert first.question == "What will the woman do?"
    assert first.options == ("Swim.", "Read a\nlong book.", "Sleep.")
    assert (first.answer, second.answer) == ("Read a\nlong book.", "Sleep.")
    assert (first.key_span, first.transcript, first.group) == (None, None, None)
    assert soundfile.info(second.audio).duration == pytest.approx(1.1)


def test_recordings_are_stored_once_by_their_content(tmp_path, cache):
    wav = write_wav(tmp_path / "a.wav").read_bytes()
    rows = [{**ROW, "context": {"bytes": wav, "path": name}} for name in ("a.wav", "b.wav", None)]
    rows.append({**ROW, "context": {"bytes": wav, "path": "../../../evil.sh/..wav/x"}})
    samples = load_task(
        "cn-college-listen", write_parquet(tmp_path / "x.parquet", *rows), offline=True
    )
    names = [sample.audio for sample in samples.samples]
    assert names[0] == names[1]
    assert names[2] == names[3]
    assert {path.parent for path in names} == {cache}
    assert {path.suffix for path in names} == {".wav", ".audio"}
    assert {*cache.iterdir()} == {*names}
    assert all(path.read_bytes() == wav for path in names)
    before = names[0].stat().st_mtime_ns
    load_task("cn-college-listen", tmp_path / "x.parquet", offline=True)
    assert names[0].stat().st_mtime_ns == before


def test_only_the_test_split_is_read(tmp_path, cache):
    write_parquet(tmp_path / "data" / "train-0.parquet", {"audio": 1})
    write_parquet(tmp_path / "data" / "test-0.parquet", dict(ROW))
    write_parquet(tmp_path / "data" / "test-1.parquet", dict(ROW))
    assert [s.id for s in load_task("dream-tts", tmp_path, offline=True).samples] == [
        "dream-tts-00000",
        "dream-tts-00001",
    ]


BAD_ROWS = {
    "no letter": ({"answer": "Sleep."}, "the answer 'Sleep.' is none of the options"),
    "no such letter": ({"answer": "(D) x"}, r"the answer '\(D\) x' is none of the options"),
    "another text": ({"answer": "(A) Sleep."}, r"the answer '\(A\) Sleep.' is none of the opt"),
    "no letters": ({"choices": "Swim.\n(B) x"}, r"the choices are not like '\(A\) ...', a line"),
    "a letter twice": ({"choices": "(A) x\n(A) y"}, r"the choices are not like '\(A\) ...', a"),
    "equal options": (
        {"choices": "(A) x\n(B) x", "answer": "(A) x"},
        "the option 'x' occurs twice",
    ),
    "empty option": ({"choices": "(A) x\n(B)", "answer": "(A) x"}, "option B is empty"),
    "one option": ({"choices": "(A) x", "answer": "(A) x"}, "1 options: give 2 to 26"),
    "no question": ({"instruction": " "}, "'instruction' holds no text"),
    "no answer": ({"answer": None}, "'answer' holds no text"),
    "no sound": ({"context": {"bytes": b"", "path": "x"}}, "'context' holds no bytes of a rec"),
    "samples": ({"context": {"array": [0.0]}}, "'context' holds no bytes of a recording"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_named(tmp_path, cache, name):
    changes, message = BAD_ROWS[name]
    path = write_parquet(tmp_path / "x.parquet", dict(ROW), {**ROW, **changes})
    assert re.match(f"{path}, row 1: {message}", refused(UsageError, "dream-tts", path))


def test_what_is_no_table_of_questions(tmp_path, cache):
    path = tmp_path / "x.parquet"
    assert refused(UsageError, "dream-tts", path) == (
        f"{path}: there is no parquet file, nor a folder that holds one"
    )
    path.write_bytes(b"PAR1 or so")
    assert refused(UsageError, "dream-tts", path).startswith(f"{path}: not a sound parquet file: ")
    write_parquet(path, {"instruction": "?"})
    assert refused(UsageError, "dream-tts", path) == f"{path}: the column 'choices' is missing"
    write_parquet(path, context=[], instruction=[], choices=[], answer=[])
    assert refused(UsageError, "dream-tts", path) == f"{path}: holds no samples"


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refused(UsageError, "dream-tts", tmp_path) == (
        "dream-tts needs pyarrow: pip install 'speechprune[parquet]'"
    )


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "x.parquet", dict(ROW))
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(path))
    assert refused(SpeechPruneError, "dream-tts", path).startswith(f"cannot make {path}/benchmarks")


def test_from_the_hub_as_downloaded_before(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    line = refused(ModelError, "cn-college-listen", None)
    assert line == (
        "AudioLLMs/cn_college_listen_mcq_test is not on this machine and --offline is on: "
        "`hf download --repo-type dataset AudioLLMs/cn_college_listen_mcq_test` where there is a "
        "network (see https://huggingface.co/datasets/AudioLLMs/cn_college_listen_mcq_test), or "
        "give its files with --data"
    )
    repo, commit = tmp_path / "hub" / "datasets--AudioLLMs--cn_college_listen_mcq_test", "0af5" * 10
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    assert refused(ModelError, "cn-college-listen", None) == line
    write_parquet(repo / "snapshots" / commit / "data" / "test-00000-of-00001.parquet", dict(ROW))
    benchmark = load_task("cn-college-listen", None, offline=True)
    assert benchmark.source == f"AudioLLMs/cn_college_listen_mcq_test@{commit}"
    assert [sample.id for sample in benchmark.samples] == ["cn-college-listen-00000"]
    assert benchmark.published == {"original": 52.91, "speechprune": 62.86}


# --- of another package


class Council(Task):
    """Meetings of the city council."""

    def load(self, data, *, offline):
        sample = Sample("a", data / "a.wav", "Who?", ("Ada", "Bo"), "Ada")
        return Benchmark("council", (sample,), str(data), "1")


def test_a_benchmark_of_another_package_is_one_entry_point(tmp_path, monkeypatch):
    entry = EntryPoint("council", f"{__name__}:Council", "speechprune.benchmarks")
    monkeypatch.setattr(TASKS, "foreign", {"council": [entry]})
    assert "council" in TASKS.names
    assert load_task("council", tmp_path, offline=True).samples[0].answer == "Ada"
    assert "council" in refused(UsageError, "spirals", None)
