"""`speechprune profile --models`: all presets side by side, through the real command line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from speechprune_cli import config
from speechprune_cli.config import list_presets, load_preset
from speechprune_cli.main import main

STATED = [name for name in list_presets() if load_preset(name).architecture]
BARE = "name: bare\nsource: org/bare\nlicence: MIT\nlanguages: [de, en, fr, es, it, nl]\n"


@pytest.fixture
def profile(capfd):
    """Run `speechprune profile ...` in this process: stdout, with nothing on stderr."""

    def run(*arguments):
        code = main(["profile", *map(str, arguments)])
        captured = capfd.readouterr()
        assert (code, captured.err) == (0, "")
        return captured.out

    return run


@pytest.fixture
def compared(profile):
    """The rows of `profile --models ... --json` by model."""

    def run(*arguments):
        table = json.loads(profile("--models", *arguments, "--json"))
        assert (table["table"], table["kind"]) == ("models", "counted")
        return {row["model"]: row for row in table["rows"]}

    return run


@pytest.fixture
def one_bare(tmp_path, monkeypatch):
    """Presets: nano, and one that states neither architecture nor size."""
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "bare.yaml").write_text(BARE)
    (folder / "nano.yaml").write_text((config.presets_folder() / "nano.yaml").read_text())
    monkeypatch.setattr(config, "presets_folder", lambda: folder)


def cells(text):
    """A plain table: rows by their first cell, cells by their column."""
    _, header, *lines = text.partition("\n\n")[0].splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    return {row["model"]: row for row in rows}


def test_every_preset_has_a_row_the_smallest_first(compared):
    rows = compared()
    sizes = [row["parameters"] or 0 for row in rows.values()]
    assert sorted(rows) == list_presets()
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (at % 4 > 0)) for at, name in enumerate(STATED)],
)
def test_a_row_says_what_the_profile_of_its_preset_says(compared, profile, capfd, name):
    asked = ("--seconds", 900, "--keep", "20%", "--memory", "48GB", "--quantize", "nf4")
    row = compared(*asked)[name]
    assert main(["profile", name, *map(str, asked), "--json"]) == 0
    tables = map(json.loads, capfd.readouterr().out.splitlines())
    alone = {table["table"]: table["rows"] for table in tables}
    computed = {found["condition"]: found for found in alone["compute"]}
    held = {found["condition"]: found for found in alone["memory"]}
    fitting = {found["dtype"]: found for found in alone["longest"]}["nf4"]
    assert row["weights_gb"] == fitting["weights_gb"]
    for way, condition in (("whole", "full"), ("pruned", "cue 20%")):
        reading, compute, memory = row[way], computed[condition], held[condition]
        assert reading["condition"] == condition
        assert reading["audio_tokens"] == compute["audio_tokens"]
        assert reading["prompt_tokens"] == compute["length"] == memory["length"]
        assert reading["beyond_context"] == compute["beyond_context"]
        assert reading["tflops"] == compute["total"]
        assert reading["encoder_tflops"] == compute["encoder"]
        assert reading["kv_cache_gb"] == memory["kv_cache"]
        assert reading["gb"] == memory["totals"]["nf4"]
        assert reading["longest"]["48GB"]["seconds"] == fitting["seconds"][condition]


def test_what_is_not_asked_for_is_each_preset_s_own(compared):
    rows = compared()
    assert rows["nano"]["pruned"]["condition"] == "cue 0.8"
    assert rows["qwen2-audio"]["pruned"]["condition"] == "cue 0.2"
    assert rows["mini"]["pruned"]["condition"] == "cue 512 tokens"
    assert rows["qwen2-audio"]["whole"]["audio_tokens"] == 90_000
    for name in STATED:
        assert rows[name]["licence"] == load_preset(name).licence
        assert list(rows[name]["whole"]["longest"]) == ["24GB", "48GB", "80GB"]


def test_pruning_costs_less_and_makes_room(compared):
    rows = compared("--keep", "10%")
    for whole, pruned in ((rows[name]["whole"], rows[name]["pruned"]) for name in STATED):
        for cost in ("audio_tokens", "tflops", "kv_cache_gb"):
            assert pruned[cost] < whole[cost]
        assert pruned["gb"] <= whole["gb"], "at most as encoding, which hears all, may hold most"
        for limit, fits in whole["longest"].items():
            assert (fits["seconds"] or 0) <= (pruned["longest"][limit]["seconds"] or 0)


def test_more_memory_holds_more(compared):
    rows = compared()
    for name in STATED:
        for way in ("whole", "pruned"):
            fitting = [fits["seconds"] or 0 for fits in rows[name][way]["longest"].values()]
            assert fitting == sorted(fitting)


def test_one_limit_of_memory_instead_of_three(compared):
    rows = compared("--memory", "16GB")
    for name in STATED:
        assert list(rows[name]["whole"]["longest"]) == ["16GB"]


def test_what_is_beyond_the_context_is_marked(profile):
    row = cells(profile("--models", "--dtype", "bfloat16"))["qwen2-audio"]
    assert (row["whole: tokens"], row["pruned: tokens"]) == ("90,000†", "600")
    assert row["context ends at"] == "5 min 23 s"
    assert (row["whole: in 24GB"], row["pruned: in 24GB"]) == ("7 min 15 s†", "3 h 15 min")
    assert row["languages"] == "zh, en, yue, fr and 4 more"


def test_how_many_tokens_are_said_is_a_guess_where_what_is_said_decides(profile):
    rows = cells(profile("--models"))
    assert rows["mini"]["tokens a second"] == "about 3"
    assert rows["nano"]["tokens a second"] == "25"


def test_what_a_preset_does_not_say_is_a_dash(one_bare, compared, profile, tmp_path):
    rows = compared()
    assert rows["bare"] == {
        "model": "bare", "parameters": None, "languages": "de en fr es it nl", "licence": "MIT",
    }  # fmt: skip
    row = cells(profile("--models", "--plot", tmp_path / "models.svg"))["bare"]
    told = {name: cell for name, cell in row.items() if cell != "–"}
    assert told == {"model": "bare", "languages": "de, en, fr, es and 2 more", "licence": "MIT"}


def test_a_model_that_cannot_be_pruned_so_is_said_to_be(compared, profile):
    asked = ("--method", "omnizip", "--keep", "20%")
    row = compared(*asked)["mini"]
    assert row["whole"]["audio_tokens"] > 0
    assert row["pruned"] is None
    out = profile("--models", *asked)
    assert cells(out)["mini"]["pruned: tokens"] == "–"
    assert f"\nmini: {row['refused']}.\n" in out
    assert cells(out)["qwen2-audio"]["pruned: tokens"] == "18,000†"


def test_csv_has_a_line_for_every_model(profile):
    rows = list(csv.DictReader(io.StringIO(profile("--models", "--csv"))))
    assert sorted(row["model"] for row in rows) == list_presets()
    for row in (row for row in rows if row["model"] in STATED):
        assert float(row["pruned.tflops"]) < float(row["whole.tflops"])
        assert float(row["whole.gb"]) > float(row["weights_gb"])
        assert float(row["whole.longest.24GB.seconds"] or 0) <= 36_000
        assert row["licence"]


def test_markdown_and_the_picture_show_every_model(profile, tmp_path):
    plot = tmp_path / "models.svg"
    out = profile("--models", "--keep", "20%", "--plot", plot, "--markdown")
    assert out.startswith("### All models, 1 h of audio, 107 text tokens (counted)")
    drawn = plot.read_text(encoding="utf-8")
    assert "(cue 20%): counted" in drawn
    for name in list_presets():
        assert f"<!-- {name}  " in drawn
        assert f"\n| {name} |" in out


def test_it_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from speechprune_cli.main import main;"
        "failed = main(['profile', '--models', '--quiet']);"
        "sys.exit(failed or any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a MODEL, or see all of them: speechprune profile --models"),
        (["nano", "--models"], "leave out MODEL"),
        (["--models", "--measure"], "leave out --measure"),
        (["--models", "--revision", "main"], "leave out --revision"),
        (["--models", "--paper"], "one way of pruning"),
        (["--models", "--keep", "20%", "--keep", "10%"], "one way of pruning"),
        (["--models", "--memory", "24"], "--memory 24"),
        (["--models", "--seconds", "0.001"], "--seconds 0.001"),
        (["--models", "--json", "--csv"], "choose one of"),
    ],
)
def test_bad_input_is_one_clear_line(capfd, arguments, told):
    assert main(["profile", *arguments]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert told in err
