"""`speechprune report`: what it shows of finished runs, and what it says of others."""

import json
from pathlib import Path

import pytest

from speechprune_cli import __version__
from speechprune_cli.bench.controls import Control
from speechprune_cli.bench.metrics import Row
from speechprune_cli.bench.results import Results
from speechprune_cli.bench.statistics import wilson
from speechprune_cli.bench.tables import results_table
from speechprune_cli.main import main


def row(condition: str, right: int) -> Row:
    method, _, rate = condition.partition(" ")
    counts = {"n": 20, "accuracy": right / 20, "f1": None, "errors": 0, "unparsed": 0}
    low, high = wilson(right, 20)
    costs = dict.fromkeys(("prompt_tokens", "prune_seconds", "prefill_seconds", "tflops"), 1.0)
    tests = {"p_full": None, "p_original": 0.5, "recall": 0.7, "share": 0.3, "kept": 600.0}
    number = float(rate) if rate else None
    return Row(condition, method, number, low=low, high=high, **counts, **tests, **costs)


def results(right: int, **changes) -> Results:
    values = {
        "title": "jsonl",
        "benchmark": "jsonl",
        "model": "nano",
        "rows": [row("full", 15), row("speechprune 0.2", right), row("speechprune 0.6", right - 2)],
        "controls": [Control("longest option", 20, 7.5)],
        "n_samples": 20,
        **changes,
    }
    return Results(**values)


@pytest.fixture
def runs(tmp_path):
    folders = []
    for name, run in {"a": results(12), "b": results(14, model="big", limited=True)}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps([results_table(run).json()]))
        folders.append(str(folder))
    return folders


def answers(condition: str, rights: str) -> list[dict]:
    method, _, rate = condition.partition(" ")
    line = {"method": method, "rate": float(rate) if rate else None, "condition": condition}
    line |= {"unparsed": 0, "prune_seconds": 0.1, "prefill_seconds": 0.1}
    return [
        {
            **line,
            "sample": str(number),
            "status": "ok",
            "right": mark == "+",
            "correct": float(mark == "+"),
        }
        for number, mark in enumerate(rights)
        if mark != " "
    ]


@pytest.fixture
def run_with_lines(tmp_path):
    """Ten samples: cue beats uniform on six and loses one; random failed on two."""
    lines = [
        *answers("full", "+++++-----"),
        *answers("cue 0.8", "++++++++--"),
        *answers("uniform 0.8", "--------+-"[::-1]),
        *answers("random 0.8", "+-+-+-+-  "),
        *answers("uniform 0.2", "++++++++++"),
    ]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "run.json").write_text(json.dumps({"version": __version__}))
    return str(tmp_path)


def test_a_method_against_all_others(run_with_lines, capfd):
    assert main(["report", run_with_lines, "--versus", "cue"]) == 0
    lines = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert lines[0] == ["cue against", "rate 0.8"]
    assert lines[1] == ["(itself)", "80.0 (49-94)"]
    assert lines[2] == ["full", "+30.0 (-4 to +54) 0.250"]
    assert lines[3] == ["uniform", "+70.0 (+26 to +91) 0.047"]
    assert lines[4] == ["random", "+50.0 (+4 to +76) 0.250"]
    assert lines[5] == [""]


def test_a_method_against_all_others_as_json_and_markdown(run_with_lines, capfd):
    assert main(["report", run_with_lines, "--versus", "cue", "--json"]) == 0
    tests = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(test["rival"], test["n"]) for test in tests] == [
        ("full", 10), ("uniform 0.8", 10), ("random 0.8", 8),
    ]  # fmt: skip
    assert main(["report", run_with_lines, "--versus", "cue", "--markdown"]) == 0
    assert "| uniform | +70.0 (+26 to +91) 0.047 |" in capfd.readouterr().out


def test_methods_are_drawn_under_each_other(run_with_lines, capfd):
    run = results(9, rows=[row("full", 12), row("cue 0.8", 15), row("uniform 0.8", 6)])
    path = Path(run_with_lines)
    (path / "results.json").write_text(json.dumps([results_table(run).json()]))
    plot = path / "forest.svg"
    assert main(["report", run_with_lines, "--versus", "cue", "--plot", str(plot)]) == 0
    assert plot.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--versus", "phase1"], "has no answers of 'phase1' at any rate beside others: it has "),
        (["elsewhere", "--versus", "cue"], "give one folder"),
        (["--versus", "cue", "--plot", "forest.svg"], "holds no results: finish it with"),
    ],
)
def test_what_cannot_be_compared(run_with_lines, arguments, message, capfd):
    assert main(["report", run_with_lines, *arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == "", "an error comes alone"
    assert message in captured.err


def test_results_survive_being_saved():
    for run in (results(12), results(9, limited=True, published={"full": 43.6}, permuted=True)):
        assert Results.from_json(json.loads(json.dumps(results_table(run).json()))) == run


def test_one_run_is_shown_in_full(runs, capfd):
    assert main(["report", runs[0]]) == 0
    assert capfd.readouterr() == (results_table(results(12)).plain(), "")


def test_several_runs_stand_side_by_side(runs, capfd):
    assert main(["report", *runs]) == 0
    out, err = capfd.readouterr()
    header, *body = [line.split("\t") for line in out.splitlines() if "\t" in line]
    assert header == [
        "condition",
        "nano: jsonl, n = 20",
        "big: jsonl · LIMITED to 20 samples, n = 20",
    ]
    cells = {name: rest for name, *rest in body}
    assert cells["speechprune 0.2"][0].startswith("60.0 (")
    assert cells["speechprune 0.2"][1].startswith("70.0 (")
    assert cells["longest option"][0].startswith("37.5 (")
    assert err == ""
    assert main(["report", *runs, "--markdown"]) == 0
    assert capfd.readouterr().out.startswith(
        "### Runs side by side\n\n| condition | nano: jsonl, n = 20 | big:"
    )
    assert main(["report", *runs, "--json"]) == 0
    objects = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [found["model"] for found in objects] == ["nano", "big"]


def test_curves_are_drawn_where_asked(runs, tmp_path, capfd):
    assert main(["report", *runs, "--plot", str(tmp_path / "curves.svg")]) == 0
    assert "speechprune" in (tmp_path / "curves.svg").read_text()
    assert main(["report", *runs, "--plot", str(tmp_path / "curves.doc")]) == 2
    assert "--plot" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "give the folder of a run"),
        ({"run.json": "{}"}, "--resume"),
        ({"results.json": "[{]"}, "results.json"),
        ({"results.json": '[{"name": 1}]'}, "results.json"),
    ],
)
def test_what_is_no_finished_run_is_refused_in_one_line(files, told, tmp_path, capfd):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert told in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "it holds no tables"),
        ("[]", "it holds no tables"),
        ("[" * 100_000, "recursion"),
        ('[{"rows": 5}]', "the key 'name' is missing"),
    ],
)
def test_results_that_no_run_wrote(runs, text, told, capfd):
    Path(runs[0], "results.json").write_text(text)
    assert main(["report", str(runs[0])]) == 2
    assert told in capfd.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"), [("accuracy", "x"), ("n", 1.5), ("errors", None), ("nominal_times", "no")]
)
def test_a_field_of_results_that_is_of_another_type_is_named(runs, field, value, capfd):
    path = Path(runs[0], "results.json")
    saved = json.loads(path.read_text())
    saved[0]["rows"][0][field] = value
    path.write_text(json.dumps(saved))
    assert main(["report", str(runs[0])]) == 2
    line = capfd.readouterr().err
    assert f"{path}: not what a run writes: " in line
    assert field in line


def test_lines_that_are_a_folder(run_with_lines, capfd):
    path = Path(run_with_lines, "lines.jsonl")
    path.unlink()
    path.mkdir()
    assert main(["report", str(run_with_lines), "--versus", "cue"]) == 2
    assert "lines.jsonl: cannot be read: " in capfd.readouterr().err
