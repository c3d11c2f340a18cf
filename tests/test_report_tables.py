"""Tables and curves of known results."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from matplotlib.image import imread
from rich.console import Console

from speechprune_cli import table
from speechprune_cli.bench import tables
from speechprune_cli.bench.controls import Control
from speechprune_cli.bench.metrics import Row
from speechprune_cli.bench.results import Results
from speechprune_cli.bench.statistics import wilson
from speechprune_cli.bench.tables import results_table
from speechprune_cli.pruners import PRUNERS
from speechprune_cli.report.curves import curves, styles


def row(condition: str, right: float = 125, n: int = 200, **fields) -> Row:
    method, _, rate = condition.partition(" ")
    low, high = wilson(right, n)
    values = {
        "method": "full" if method == "silence" else method,
        "rate": float(rate) if rate else None,
        "n": n,
        "accuracy": right / n,
        "low": low,
        "high": high,
        "f1": None,
        "errors": 0,
        "unparsed": 0,
        "p_full": 0.0123,
        "p_original": 1e-9,
        "recall": 0.891,
        "share": 0.25,
        "kept": 1500.0,
        "prompt_tokens": 1520.0,
        "prune_seconds": 0.002,
        "prefill_seconds": 0.01,
        "tflops": 12.34,
    }
    return Row(condition, **{**values, **fields})


FAILED = {
    **dict.fromkeys(("accuracy", "low", "high", "recall", "share", "kept", "prompt_tokens")),
    **dict.fromkeys(("prune_seconds", "prefill_seconds", "tflops", "p_full", "p_original")),
}
RESULTS = Results(
    title="held out",
    benchmark="spiral",
    model="nano",
    rows=[
        row("full", p_full=None),
        row("original", p_original=None),
        row("silence", recall=None),
        row("speechprune 0.2"),
        row("speechprune 0.4", right=90.5),
        row("random 0.2", right=40),
        row("random 0.4", right=30),
    ],
    controls=[Control("always B", 200, 119), Control("longest option", 200, 75.5)],
    n_samples=200,
)


def parsed(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.split("\n") if "\t" in line]


def plain(results: Results) -> str:
    return results_table(results).plain()


def lines_of_csv(results: Results) -> list[dict]:
    return list(csv.DictReader(io.StringIO(table.csv([results_table(results)]))))


def drawn(results: Results, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(results_table(results))
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


def test_plain_text_has_every_column_and_line():
    header, *lines = parsed(plain(RESULTS))
    assert header == [
        "condition",
        "n",
        "accuracy (95%)",
        "p vs full",
        "p vs original",
        "errors",
        "key recall",
        "share kept",
        "tokens kept",
        "prune + prefill",
        "TFLOPs",
    ]
    named = {line[0]: line[1:] for line in lines}
    cells = ("200", "62.5 (56-69)", "–", "<0.001", "0", "89.1", "25.0", "1,500", "12 ms", "12.3")
    assert named["full"] == list(cells)
    assert named["speechprune 0.2"][2] == "0.012"
    assert named["longest option"] == ["200", "37.8 (31-45)", *"––––––––"]
    assert list(named)[-3:] == ["silence", "always B", "longest option"], "controls come last"


def test_columns_that_only_some_runs_need():
    rows = [row("full", f1=0.5, unparsed=3), row("original")]
    header, full, original = parsed(
        results_table(
            replace(RESULTS, rows=rows, controls=[], published={"original": 60.38})
        ).plain()
    )
    assert full[header.index("f1")] == "50.0"
    assert original[header.index("f1")] == "–"
    assert full[header.index("unparsed")] == "3"
    assert [full[-1], original[-1]] == ["–", "60.4"]
    assert "published" not in plain(replace(RESULTS, published={"crop 0.8": 55.8}))


def test_a_condition_that_always_failed_is_shown():
    always = replace(row("crop 0.2", **FAILED), n=0, errors=200)
    failed = replace(RESULTS, rows=[row("full"), always])
    line = parsed(plain(failed))[2]
    assert line == ["crop 0.2", "0", "–", "–", "–", "200", "–", "–", "–", "–", "–"]
    json.dumps(results_table(failed).json(), allow_nan=False)


def test_a_limited_run_is_marked_everywhere():
    limited = replace(RESULTS, limited=True, n_samples=20)
    mark = "held out · LIMITED to 20 samples"
    assert plain(limited).startswith(mark + "\n")
    assert results_table(limited).markdown().startswith(f"### {mark}\n")
    assert results_table(limited).json()["title"] == mark
    assert {
        line["title"] for line in csv.DictReader(io.StringIO(table.csv([results_table(limited)])))
    } == {mark}
    assert mark in drawn(limited, 120)
    assert "LIMITED" not in plain(RESULTS)


@pytest.mark.parametrize("width", [40, 80, 100, 140])
def test_nothing_is_cut_off_on_a_terminal(width):
    text = drawn(RESULTS, width)
    assert "…" not in text
    assert max(map(len, text.split("\n"))) <= width
    for line in parsed(plain(RESULTS)):
        for cell in line[1:]:
            assert cell.split(" ")[-1] in text


def test_a_wide_terminal_shows_one_table():
    assert drawn(RESULTS, 140).count("speechprune 0.4") == 1
    assert drawn(RESULTS, 80).count("speechprune 0.4") == 2
    assert drawn(RESULTS, 80).count("always B") == 1, "no lines of dashes alone"


def test_markdown_is_a_table():
    table = [line for line in results_table(RESULTS).markdown().split("\n") if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + len(RESULTS.rows) + len(RESULTS.controls)


def test_csv_and_json_hold_the_numbers_themselves():
    lines = lines_of_csv(RESULTS)
    fields = results_table(RESULTS).json()
    assert [line["condition"] for line in lines if line["kind"] == "condition"] == [
        found["condition"] for found in fields["rows"]
    ]
    [at] = [i for i, line in enumerate(lines) if line["condition"] == "speechprune 0.4"]
    assert float(lines[at]["accuracy"]) == fields["rows"][at]["accuracy"] == 90.5 / 200
    assert lines[-1]["condition"] == "longest option"
    assert lines[0]["p_full"] == ""
    assert fields["rows"][0]["p_full"] is None
    assert lines[-1]["kind"] == "control"
    assert float(lines[-1]["right"]) == fields["controls"][-1]["right"] == 75.5


def test_the_documented_json_is_what_comes_out():
    fields = results_table(RESULTS).json()
    documented = re.findall(r"\w+", tables.__doc__)
    for name in (*fields, *fields["rows"][0], *fields["controls"][0]):
        assert name in documented


def test_the_caption_says_how_options_were_chosen():
    assert "likelihood" in results_table(RESULTS).notes[0]
    free = replace(RESULTS, scoring="generate", permuted=True)
    assert "free answer" in results_table(free).notes[0]
    assert "every rotation" in results_table(free).notes[0]


def test_every_method_has_its_own_colour_and_mark_whatever_else_is_drawn():
    found, other = styles(PRUNERS.names), styles(["random", "cue"])
    looks = {name: (style["color"], style["marker"]) for name, style in found.items()}
    assert len(set(looks.values())) == len(PRUNERS.names)
    assert (other["cue"]["color"], other["cue"]["marker"]) == looks["cue"]
    assert other["random"]["linewidth"] > other["cue"]["linewidth"], "the first stands out"
    assert styles(["of another version"]).keys() == {"of another version"}


def test_curves_are_drawn(tmp_path):
    path = tmp_path / "curves.png"
    curves([RESULTS], path)
    height, width = imread(path).shape[:2]
    assert width > height, "recall stands beside accuracy"
    assert list(tmp_path.iterdir()) == [path]


def test_runs_stand_side_by_side(tmp_path):
    path = tmp_path / "curves.svg"
    rows = [replace(row, recall=None) for row in RESULTS.rows if row.rate != 0.2]
    curves([RESULTS, replace(RESULTS, rows=rows, limited=True)], path)
    texts = re.findall("<!-- (.*?) -->", path.read_text())
    assert texts.count("accuracy (%)") == texts.count("key-sentence recall (%)") == 2
    assert texts.count("the key sentences are not known") == 1
    assert "held out · LIMITED to 200 samples" in texts
    for label in ("full", "original", "silence", "speechprune", "random"):
        assert texts.count(label) == 1, "one legend for all"


def test_a_run_of_references_alone_has_no_curves(tmp_path):
    path = tmp_path / "curves.pdf"
    curves([replace(RESULTS, rows=RESULTS.rows[:3])], path)
    assert path.read_bytes().startswith(b"%PDF")
