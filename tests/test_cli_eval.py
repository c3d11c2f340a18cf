"""`speechprune eval`, through the real command line and a tiny real model."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import soundfile
from bench_data import RECORDS, REFERENCES, answers, read_lines, write_benchmark
from conftest import make_audio
from full_disk import full_disk
from test_cli_ask import Terminal
from tiny_models import forget

from speechprune_cli import evaluate
from speechprune_cli.bench.metrics import hard_ids, summarise
from speechprune_cli.bench.plan import draw
from speechprune_cli.bench.run import Observer, resume
from speechprune_cli.bench.store import Run, _digest
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main

GRID = [
    *("--method", "speechprune", "--method", "random", "--method", "full"),
    *("--rate", "0.4", "--rate", "0.8", "--max-new-tokens", "6"),
]
PRUNED = ["speechprune 0.4", "speechprune 0.8", "random 0.4", "random 0.8"]
IDS = [record["id"] for record in RECORDS]
FAILED, USAGE, BAD_MODEL = 1, 2, 4
OLD_RUN = Path(__file__).parent / "runs" / "format-1"
"""As version 0.1.0 left it, with the lines of four samples."""


def run(*arguments):
    """Exit code, stdout and stderr of `speechprune eval ...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["eval", *map(str, arguments)])
    return code, out.getvalue(), err.getvalue()


def fails(*arguments):
    """Exit code and the one line on stderr."""
    code, _, err = run(*arguments)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return code, err


def begin(index, model, folder, *arguments):
    """A new run in `folder`; its stdout once it has succeeded."""
    code, out, err = run(
        "jsonl", "--data", index, "-m", model, "-o", folder, "--no-cache", *arguments
    )
    assert (code, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_benchmark(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture(scope="module")
def grid(index, tiny_model_folder, tmp_path_factory):
    """The folder of a whole run, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "grid"
    return folder, begin(index, tiny_model_folder, folder, *GRID, "--derive-hard")


@pytest.fixture
def one(tiny_model_folder, tmp_path):
    """The folder of a run on a single short recording, with a benchmark of its own."""
    index = write_benchmark(tmp_path, "two")
    begin(index, tiny_model_folder, tmp_path / "run", "--rate", "0.4")
    return tmp_path / "run"


def test_a_grid_is_a_line_per_sample_and_condition_with_the_references(grid):
    lines = read_lines(grid[0])
    assert set(answers(lines)) == {(id_, name) for id_ in IDS for name in REFERENCES + PRUNED}
    assert {line["status"] for line in lines} == {"ok"}
    fields = {
        *("sample", "condition", "method", "rate", "share_asked", "tokens_asked", "status"),
        *("correct", "right", "unparsed", "answers", "audio_sha256", "audio_seconds", "total"),
        *(
            "kept",
            "kept_ranges",
            "budget",
            "recall",
            "nominal_times",
            "share",
            "prompt_tokens",
            "tflops",
        ),
        *("prune_seconds", "prefill_seconds", "decode_seconds", "check"),
    }
    for line in lines:
        assert set(line) - {"f1"} == fields
        assert ("f1" in line) == (line["sample"] == "öffen")
        (answer,) = line["answers"]
        assert set(answer) == {"order", "text", "chosen", "probabilities"}
    found = answers(lines)
    kept = {name: found["long", name]["kept"] for name in REFERENCES + PRUNED}
    assert kept == dict(zip(REFERENCES + PRUNED, [850, 750, 850, 450, 150, 450, 150], strict=True))
    assert found["long", "full"]["recall"] == 1
    assert found["long", "original"]["recall"] == 0, "it is spoken after 30 s"
    assert found["as long", "original"]["recall"] == 1
    assert found["short", "full"]["recall"] is None


def test_the_answer_is_the_likeliest_option(grid):
    records = {record["id"]: record for record in RECORDS}
    for line in read_lines(grid[0]):
        record, (answer,) = records[line["sample"]], line["answers"]
        if line["sample"] == "öffen":
            assert (answer["chosen"], answer["probabilities"]) == (None, None)
            continue
        assert answer["order"] == list(range(len(record["options"])))
        assert answer["probabilities"][answer["chosen"]] == max(answer["probabilities"])
        assert sum(answer["probabilities"]) == pytest.approx(1)
        assert answer["text"] == record["options"][answer["chosen"]]
        truth = 1 if record["answer"] == "B" else record["options"].index(record["answer"])
        assert (line["correct"], line["right"]) == (answer["chosen"] == truth,) * 2


def test_silence_is_as_long_and_sounds_alike_everywhere(grid):
    found = answers(read_lines(grid[0]))
    for sample in IDS:
        silent, full = found[sample, "silence"], found[sample, "full"]
        assert (silent["total"], silent["kept"]) == (full["total"], full["kept"])
    assert found["long", "silence"]["answers"] == found["as long", "silence"]["answers"]
    assert found["long", "full"]["answers"] != found["as long", "full"]["answers"]
    assert found["long", "full"]["answers"] != found["long", "silence"]["answers"]


def test_a_run_folder_tells_what_was_run_and_on_what(grid, tiny_model_folder, index):
    folder, printed = grid
    saved = json.loads((folder / "run.json").read_text())
    assert saved["plan"]["model"] == str(tiny_model_folder)
    assert saved["plan"]["data"] == str(index)
    assert saved["plan"]["rates"] == [0.4, 0.8]
    assert saved["samples"] == IDS
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["model"]["dtype"] == "float32"
    assert environment["attention"] == "sdpa"
    assert "<|AUDIO|>" in environment["prompt"]
    assert {"python", "torch", "transformers", "speechprune"} <= set(environment["versions"])
    first = f"jsonl {index.name}, questions with options\ncondition\tn\taccuracy (95%)"
    assert printed.startswith(first)
    assert printed.endswith(f"run folder: {folder}\n")
    assert "LIMITED" not in printed
    for n in (1, 4):  # an open question, and those with options
        assert all(f"\n{name}\t{n}\t" in printed for name in REFERENCES + PRUNED)
    assert all(f"\n{name}\t4\t" in printed for name in ("longest option", "always C"))
    tables = json.loads((folder / "results.json").read_text())
    assert (folder / "results.md").read_text().count("### jsonl") == len(tables)
    rows = list(csv.DictReader((folder / "results.csv").open()))
    asked = [row["condition"] for row in rows if row["kind"] == "condition"]
    assert sorted(asked) == sorted((REFERENCES + PRUNED) * len(tables))


def test_what_original_fails_is_listed_and_has_a_table(grid):
    folder, printed = grid
    lines = read_lines(folder)
    hard = [
        line["sample"] for line in lines if line["condition"] == "original" and not line["right"]
    ]
    assert hard
    assert (folder / "hard.txt").read_text().splitlines() == hard
    tables = json.loads((folder / "results.json").read_text())
    whole = [table for table in tables if "what original fails" not in table["title"]]
    parts = [table for table in tables if "what original fails" in table["title"]]
    assert sum(table["samples"] for table in whole) == len(IDS)
    assert sum(table["samples"] for table in parts) == len(hard)
    for part in parts:
        rows = {row["condition"]: row for row in part["rows"]}
        assert rows["original"]["accuracy"] == 0
        assert all(row["p_original"] is None for row in rows.values())
        assert rows["random 0.4"]["p_full"] is not None
    assert "what original fails" in printed
    assert "what original fails" in (folder / "results.csv").read_text()


def test_a_finished_run_is_summed_up_again_and_nothing_is_asked(grid, tmp_path, capfd):
    folder = shutil.copytree(grid[0], tmp_path / "copy")
    before = (folder / "lines.jsonl").read_bytes()
    assert main(["eval", "--resume", str(folder), "--json", "--derive-hard"]) == 0
    captured = capfd.readouterr()
    tables = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    assert {table.pop("folder") for table in tables} == {str(folder)}
    assert tables == json.loads((folder / "results.json").read_text())
    assert (folder / "lines.jsonl").read_bytes() == before
    assert main(["eval", "jsonl", "--resume", str(folder)]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert "\x1b" not in captured.out
    shown = captured.out.partition("run folder:")[0]
    assert grid[1].startswith(shown)


def test_batches_are_answered_as_one_by_one(grid, index, tiny_model_folder, tmp_path):
    begin(index, tiny_model_folder, tmp_path / "run", *GRID, "--batch-size", 4)
    batch, alone = answers(read_lines(tmp_path / "run")), answers(read_lines(grid[0]))
    assert batch.keys() == alone.keys()
    for key, line in batch.items():
        for ours, expected in zip(line["answers"], alone[key]["answers"], strict=True):
            assert ours.pop("probabilities") == pytest.approx(expected["probabilities"], abs=1e-5)
            assert ours == {name: expected[name] for name in ours}
        assert {**line, "answers": None} == {**alone[key], "answers": None}


@pytest.mark.slow
def test_on_a_terminal_there_are_a_bar_and_tables(one):
    terminal = Terminal("eval", "--resume", str(one), NO_COLOR="1", COLUMNS="120")
    screen = terminal.read_until(None)
    assert terminal.process.wait() == 0
    assert f"run folder: {one}" in screen
    assert "accuracy" in screen
    assert "cue 0.4" in screen
    assert "Wilson" in screen


KILL = """
import os, signal, sys
from speechprune_cli.bench.store import Appender
from speechprune_cli.errors import UsageError
from speechprune_cli.main import main

write, left = Appender.write, [int(sys.argv.pop(1))]

def write_then_die(self, line):
    if not left[0]:
        os.write(self.file, '{"sample": "ö'.encode()[:-1])
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    write(self, line)

Appender.write = write_then_die
main(sys.argv[1:])
"""


def kill_after(lines, *arguments):
    """Begin or resume a run in a process of its own that is killed in the middle of a line."""
    command = [sys.executable, "-c", KILL, str(lines), "eval", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_killed_runs_go_on_where_they_were(grid, index, tiny_model_folder, tmp_path):
    folder = tmp_path / "run"
    new = ("jsonl", "--data", index, "-m", tiny_model_folder, "-o", folder, "--no-cache", *GRID)
    kill_after(3, *new)
    kill_after(14, "--resume", folder, "--no-cache")
    *whole, half = (folder / "lines.jsonl").read_bytes().split(b"\n")
    assert (len(whole), half) == (17, b'{"sample": "\xc3')
    assert not (folder / "results.json").exists()
    assert run("--resume", folder)[0] == 0
    content = (folder / "lines.jsonl").read_bytes()
    assert content.startswith(b"\n".join(whole) + b"\n"), "what was measured stays as it was"
    assert answers(read_lines(folder)) == answers(read_lines(grid[0]))
    assert "\u2028" in content.decode()
    (folder / "lines.jsonl").write_bytes(b"\n".join(whole[:5]) + b"\n")
    kill_after(2, "--resume", folder, "--no-cache")
    assert not (folder / "results.json").exists(), "it would say what is no longer so"


def test_a_full_disk_loses_nothing(grid, index, tiny_model_folder, tmp_path):
    """A limit on the size of files fails like a full disk, half-way through a line."""
    folder = tmp_path / "run"
    limit = (grid[0] / "lines.jsonl").stat().st_size // 2
    with full_disk(limit):
        code, line = fails(
            *("jsonl", "--data", index, "-m", tiny_model_folder, "-o", folder, "--no-cache", *GRID)
        )
    assert code == FAILED
    assert f"cannot write {folder / 'lines.jsonl'}" in line
    assert f"--resume {folder}" in line
    measured = read_lines(folder)
    assert len(measured) > 5
    assert run("--resume", folder)[0] == 0
    assert read_lines(folder)[: len(measured)] == measured
    assert answers(read_lines(folder)) == answers(read_lines(grid[0]))


def test_a_missing_recording_is_an_error_until_it_is_there(tiny_model_folder, tmp_path):
    index, folder = write_benchmark(tmp_path, "short", "long"), tmp_path / "run"
    (tmp_path / "long.wav").rename(tmp_path / "away.wav")
    new = ("jsonl", "--data", index, "-m", tiny_model_folder, "-o", folder, "--rate", "0.4")
    code, out, err = run(*new)
    assert code == FAILED
    before, warning, error = err.splitlines()
    told = f"1 of 2 recordings are missing, such as {tmp_path / 'long.wav'}"
    assert before == f"warning: {told}: their questions will fail"
    assert warning.startswith("warning: long: ")
    assert "no such file" in warning
    assert "4 of 8 answers failed" in error
    assert f"--resume {folder}" in err
    lines = read_lines(folder)
    failed = [line for line in lines if line["status"] == "error"]
    assert {line["sample"] for line in failed} == {"long"}
    assert all("no such file" in line["error"] for line in failed)
    assert len(lines) == 8
    (table,) = json.loads((folder / "results.json").read_text())
    assert [(row["n"], row["errors"]) for row in table["rows"]] == [(1, 1)] * 4
    assert "\nfull\t1\t" in out
    assert run("--resume", folder)[0] == FAILED
    (tmp_path / "away.wav").rename(tmp_path / "long.wav")
    assert run("--resume", folder)[0] == 0
    (table,) = json.loads((folder / "results.json").read_text())
    assert [(row["n"], row["errors"]) for row in table["rows"]] == [(2, 0)] * 4
    assert read_lines(folder)[:8] == lines
    answered = [line for line in read_lines(folder) if line["status"] == "ok"]
    assert len(answers(answered)) == 8


def test_resume_refuses_numbers_that_json_does_not_have(one):
    path = one / "run.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": NaN'))
    code, line = fails("--resume", one)
    assert code == USAGE
    assert f"{path}: damaged or edited" in line


def test_resume_refuses_what_is_not_the_same_run(one):
    index = one.parent / "index.jsonl"
    before = (one / "lines.jsonl").read_bytes()
    for arguments, complaint in [
        (["--rate", 0.2], "leave --rate out"),
        (["--set", "temperature=0.5"], "leave --set out"),
        (["--permute-options"], "leave --permute-options out"),
        (["--dtype", "bfloat16"], "leave --dtype out"),
        (["--data", index], "leave --data out"),
        (["-o", one.parent / "other"], "leave --output out"),
        (["spiral"], "is a run of jsonl, not of spiral"),
    ]:
        code, line = fails(*arguments, "--resume", one)
        assert code == USAGE
        assert complaint in line
        assert str(one) in line
    index.write_text(index.read_text().replace("Who?", "Why?"))
    code, line = fails("--resume", one)
    assert (code, "has changed" in line) == (USAGE, True)
    saved = json.loads((one / "run.json").read_text())
    reseal(one, version="0.0.1")
    code, line = fails("--resume", one)
    assert (code, "0.0.1" in line) == (USAGE, True)
    reseal(one, format=3)
    code, line = fails("--resume", one)
    assert (code, "format 3" in line) == (USAGE, True)
    for changes, complaint in [({"limited": True}, "damaged"), ({"sha256": None}, "'sha256'")]:
        kept = {key: value for key, value in {**saved, **changes}.items() if value is not None}
        (one / "run.json").write_text(json.dumps(kept))
        code, line = fails("--resume", one)
        assert (code, complaint in line) == (USAGE, True)
        assert f"{one / 'run.json'}: " in line
    for broken in ("{", "[]"):
        (one / "run.json").write_text(broken)
        code, line = fails("--resume", one)
        assert (code, "run.json" in line) == (USAGE, True)
    for folder in (one.parent, one.parent / "nowhere"):
        code, line = fails("--resume", folder)
        assert (code, "holds no run" in line) == (USAGE, True)
    assert not (one.parent / "nowhere").exists()
    assert (one / "lines.jsonl").read_bytes() == before


def reseal(folder, **changes):
    """Change what `run.json` says, and make its checksum agree."""
    saved = {**json.loads((folder / "run.json").read_text()), **changes}
    del saved["sha256"]
    (folder / "run.json").write_text(json.dumps({**saved, "sha256": _digest(saved)}))


def test_resume_refuses_a_recording_that_changed(one):
    sound = one.parent / "short.wav"
    content = sound.read_bytes()
    sound.write_bytes(content[:-1] + b"x")
    code, line = fails("--resume", one)
    assert code == USAGE
    assert f"{sound} has changed since {one} asked about it" in line
    sound.write_bytes(content)
    assert run("--resume", one)[0] == 0


def test_resume_refuses_another_model_in_the_same_place(
    tiny_model_folder, tiny_qwen2_folder, tmp_path
):
    index, model = write_benchmark(tmp_path, "two"), tmp_path / "model"
    shutil.copytree(tiny_model_folder, model)
    begin(index, model, tmp_path / "run", "--rate", "0.4")
    before = (tmp_path / "run" / "lines.jsonl").read_bytes()
    shutil.rmtree(model)
    shutil.copytree(tiny_qwen2_folder, model)
    code, line = fails("--resume", tmp_path / "run")
    assert (code, "begun with another model" in line) == (USAGE, True)
    shutil.rmtree(model)
    assert fails("--resume", tmp_path / "run")[0] == BAD_MODEL
    assert (tmp_path / "run" / "lines.jsonl").read_bytes() == before


def test_report_tells_of_damaged_answers(one, capfd):
    lines = one / "lines.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b'"ok"', b'"ko"', 1))
    assert main(["report", str(one)]) == USAGE
    assert "lines.jsonl:1: damaged, its key 'check' says: delete the line" in capfd.readouterr().err


def test_lines_that_no_run_wrote(one):
    (one / "lines.jsonl").write_text("no JSON\n")
    code, line = fails("--resume", one)
    assert (code, "lines.jsonl" in line) == (USAGE, True)


def test_a_new_run_wants_a_folder_of_its_own(one, tiny_model_folder):
    new = ("jsonl", "--data", one.parent / "index.jsonl", "-m", tiny_model_folder, "-o")
    code, line = fails(*new, one)
    assert (code, f"--resume {one}" in line) == (USAGE, True)
    code, line = fails(*new, one.parent)
    assert (code, "not empty" in line) == (USAGE, True)
    code, line = fails(*new, one / "run.json" / "deeper")
    assert (code, "--output" in line) == (USAGE, True)


def test_a_folder_where_a_kill_left_half_a_file_can_be_used(index, tiny_model_folder, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / f".run.{'0' * 32}.json").write_text('{"version"')
    begin(index, tiny_model_folder, folder, "--method", "full", "--limit", "1")
    assert not list(folder.glob(".run.*"))
    (folder / f".results.{'0' * 32}.json").write_text("[")
    assert run("--resume", folder)[0] == 0
    assert {path.name for path in folder.glob(".*")} <= {".lock"}


HOLD = """
import sys
from pathlib import Path
from speechprune_cli.atomic import locked
with locked(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_in_use_is_refused_until_its_holder_is_gone(one):
    command = [sys.executable, "-c", HOLD, str(one)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        code, line = fails("--resume", one)
        holder.kill()
    assert (code, "in use" in line) == (USAGE, True)
    assert run("--resume", one)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a benchmark: audiomarathon-race, cn-college-listen, dream-tts, jsonl"),
        (["squad"], "unknown benchmark 'squad': choose from"),
        (["jsonl"], "needs --data FILE.jsonl"),
        (["jsonl", "--data", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["jsonl", "--method", "best"], "unknown pruning method 'best': choose from "),
        (["jsonl", "--rate", "1"], "rate 1 is outside [0, 1)"),
        (["jsonl", "--rate", "0.2", "--rate", "nan"], "rate nan is outside [0, 1)"),
        (["jsonl", "--set", "heat=2"], "--set heat"),
        (["jsonl", "--set", "temperature"], "write key=value"),
        (["jsonl", "--method", "phase1", "--set", "temperature=0"], "temperature is 0"),
        (["jsonl", "--set", "query=question"], "--set query"),
        (["jsonl", "--query", "answer"], "--query"),
        (["jsonl", "--keep", "0%"], "keep 0%"),
        (["jsonl", "--paper", "--rate", "0.2"], "--paper says methods and rates"),
        (["jsonl", "--method", "random", "--set", "seed=no"], "seed is 'no'"),
        (["jsonl", "--scoring", "guess"], "'guess' is not one of"),
        (["jsonl", "--budget", "0"], "--budget 0"),
        (["jsonl", "--limit", "0"], "--limit"),
        (["jsonl", "--batch-size", "0"], "--batch-size"),
        (["jsonl", "--model", "gpt"], "qwen2-audio"),
    ],
)
def test_usage(arguments, complaint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, line = fails(*arguments)
    assert code == USAGE
    assert complaint in line
    assert not list(tmp_path.iterdir()), "nothing is begun"


def test_amounts_a_query_and_the_defaults_of_the_model(index, tiny_model_folder, tmp_path):
    printed = begin(
        *(index, tiny_model_folder, tmp_path / "run", "--limit", 1, "--keep", "20%", "--keep", 9),
        *("--query", "question+choices"),
    )
    assert "\ncue 20%\t" in printed
    assert "\ncue 9 tokens\t" in printed
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert (plan["methods"], plan["rates"], plan["keeps"]) == (["cue"], [], ["20%", "9"])
    assert (plan["query"], plan["settings"]) == ("question+choices", {})


class Heard(Observer):
    """Remembers what it was told."""

    def __init__(self):
        self.notes, self.begun, self.lines = [], [], []

    def on_note(self, message):
        self.notes.append(message)

    def on_begin(self, run, lines):
        self.begun.append((run.asked, len(lines)))

    def on_line(self, line):
        self.lines.append(line)


def test_evaluating_from_python(tiny_model_folder, tmp_path, capfd):
    index, heard = write_benchmark(tmp_path, "short", "long"), Heard()
    (tmp_path / "long.wav").rename(tmp_path / "away.wav")
    done = evaluate(
        *("jsonl",),
        model=str(tiny_model_folder),
        data=index,
        methods="uniform",
        keep="20%",
        output=tmp_path / "run",
        cache=False,
        derive_hard=True,
        observer=heard,
        max_new_tokens=3,
    )
    assert (done.folder, done.asked, done.errors) == (tmp_path / "run", 8, 4)
    assert done.plan.keeps == ("20%",)
    assert heard.begun == [(8, 0)]
    assert heard.lines == Run(done.folder).lines()
    assert done.hard == tuple(hard_ids(heard.lines))
    assert [row.condition for row in done.results[0].rows] == [*REFERENCES, "uniform 20%"]
    (tmp_path / "away.wav").rename(tmp_path / "long.wav")
    done = resume(done.folder, cache=False, observer=heard)
    assert (done.errors, done.hard, heard.begun[1]) == (0, None, (8, 8))
    assert len(heard.lines) == 12
    line = heard.lines[-1]
    assert line.audio_sha256 == hashlib.sha256((tmp_path / "long.wav").read_bytes()).hexdigest()
    assert (line.audio_seconds, len(line.kept_indices)) == (34, line.kept)
    with pytest.raises(UsageError, match="is a run of jsonl"):
        resume(done.folder, benchmark="spiral")
    assert capfd.readouterr() == ("", "")


def test_runs_of_format_1_are_read_but_not_gone_on_with(tmp_path):
    folder = shutil.copytree(OLD_RUN, tmp_path / "old")
    lines = Run(folder).lines()
    assert {line.condition for line in lines} == {*REFERENCES, "cue 0.8", "random 0.8"}
    assert all(line.kept_indices is None for line in lines)
    assert {row.condition: (row.n, row.accuracy) for row in summarise(lines)} == {
        **{"full": (4, 0.75), "original": (4, 0.25), "silence": (4, 0.0)},
        **{"cue 0.8": (4, 0.75), "random 0.8": (4, 0.0)},
    }
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["report", str(folder), "--versus", "cue"]) == 0
    assert "random\t+75.0 (-2 to +100) 1.000" in out.getvalue()
    code, line = fails("--resume", folder)
    assert (code, "begin a new run" in line) == (USAGE, True)


def test_no_recording_is_long_enough(index, tiny_model_folder, tmp_path):
    new = ("jsonl", "--data", index, "-m", tiny_model_folder, "-o", tmp_path / "run")
    code, line = fails(*new, "--min-seconds", 60)
    assert (code, "--min-seconds" in line) == (USAGE, True)
    assert not (tmp_path / "run").exists()


def test_a_limited_run_says_so_everywhere_and_one_of_long_recordings_is_whole(
    index, tiny_model_folder, tmp_path
):
    folder = tmp_path / "limited"
    printed = begin(index, tiny_model_folder, folder, "--limit", 1, "--seed", 7, "--method", "full")
    drawn = [sample.id for sample in draw(load_task("jsonl", index, offline=True).samples, 1, 7)]
    assert json.loads((folder / "run.json").read_text())["samples"] == drawn
    assert {line["sample"] for line in read_lines(folder)} == set(drawn)
    mark = "LIMITED to 1 samples"
    assert printed.startswith(f"jsonl {index.name} · {mark}\n")
    assert all(mark in (folder / f"results.{kind}").read_text() for kind in ("md", "csv", "json"))
    resumed = json.loads(run("--resume", folder, "--json")[1])
    assert (resumed["limited"], resumed["samples"]) == (True, 1)
    printed = begin(
        *(index, tiny_model_folder, tmp_path / "long", "--min-seconds", 30, "--method", "full")
    )
    assert "LIMITED" not in printed
    assert "\nfull\t2\t" in printed


def test_letters_of_free_answers_are_counted(index, tiny_model_folder, tmp_path):
    scoring = ("--scoring", "generate", "--permute-options", "--max-new-tokens", "3")
    printed = begin(index, tiny_model_folder, tmp_path / "run", *scoring, "--method", "full")
    for line in read_lines(tmp_path / "run"):
        chosen = [answer["chosen"] for answer in line["answers"]]
        if line["sample"] != "öffen":
            assert line["unparsed"] == chosen.count(None)
            assert len(chosen) == (2 if line["sample"] == "two" else 4)
            assert all(answer["probabilities"] is None for answer in line["answers"])
    assert "unparsed" in printed


def test_open_takes_the_options_away(index, tiny_model_folder, tmp_path):
    begin(
        *(index, tiny_model_folder, tmp_path / "run", "--scoring", "open", "--method", "full"),
        *("--max-new-tokens", 3),
    )
    for line in read_lines(tmp_path / "run"):
        (answer,) = line["answers"]
        assert (answer["order"], answer["chosen"], answer["probabilities"]) == ([], None, None)
        assert line["f1"] is not None
    (table,) = json.loads((tmp_path / "run" / "results.json").read_text())
    assert table["controls"] == []
    assert run("--resume", tmp_path / "run")[0] == 0


def test_help_and_mistakes_need_nothing_heavy():
    program = (
        "import sys; from speechprune_cli.main import main;"
        "codes = [main(['eval', '--help']), main(['eval', 'squad']),"
        " main(['eval', 'jsonl', '--method', 'best'])];"
        "heavy = {'torch', 'transformers', 'scipy', 'ray', 'pyarrow', 'numpy', 'av', 'matplotlib'};"
        "print(codes, sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "[0, 2, 2] []"
    assert all(
        option in done.stdout for option in ("--permute-options", "--derive-hard", "--resume")
    )


def test_what_the_model_does_not_read_is_said_before_and_marked(tiny_model_folder, tmp_path):
    model = shutil.copytree(tiny_model_folder, tmp_path / "model")
    forget(model, "£€")
    soundfile.write(tmp_path / "a.wav", make_audio(1.0).samples, SAMPLE_RATE)
    records = [
        {"id": "alike", "question": "How much?", "options": ["£50", "€50"], "answer": "A"},
        {"id": "sign", "question": "Is it £50?", "options": ["yes", "no"], "answer": "A"},
        {"id": "plain", "question": "Is it so?", "options": ["yes", "no"], "answer": "A"},
    ]
    index = tmp_path / "index.jsonl"
    lines = (json.dumps({"audio": "a.wav", **record}) + "\n" for record in records)
    index.write_text("".join(lines), encoding="utf-8")
    new = ("jsonl", "--data", index, "-m", model, "-o", tmp_path / "run", "--no-cache")
    code, out, err = run(*new, "--method", "full")
    assert code == 1
    alike = f"1 questions cannot be asked, as alike: choices: {model} cannot tell '£50' from '€50'"
    for told in (alike, "1 questions are not read in full, as sign: no '£'"):
        assert err.index(told) < err.index("answers failed")
    assert "full\t2‡\t" in out
    assert "‡ 1 of the samples hold letters or symbols" in (tmp_path / "run/results.md").read_text()
    unread = {line["sample"]: line.get("unread") for line in read_lines(tmp_path / "run")}
    assert unread == {"alike": None, "sign": "£", "plain": None}
    (row, *_), *_ = json.loads((tmp_path / "run/results.json").read_text())[0]["rows"], ""
    assert row["unread"] == 1
