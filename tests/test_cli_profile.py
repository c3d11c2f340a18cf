"""`speechprune profile`, counted and measured, through the real command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from speechprune_cli.main import main

SPEECHPRUNE = ("--method", "speechprune")
MEASURED = ("--measure", "--repeats", "2", "--seconds", "3", "--rate", "0.5", "--text-tokens", "9")


@pytest.fixture
def profile(capfd):
    """Run `speechprune profile ...` in this process: stdout, with nothing on stderr."""

    def run(*arguments):
        code = main(["profile", *map(str, arguments)])
        captured = capfd.readouterr()
        assert (code, captured.err) == (0, "")
        return captured.out

    return run


def objects(text):
    return {one["table"]: one for one in map(json.loads, text.splitlines())}


def test_table_i_stands_beside_the_paper_s_own_columns(profile):
    lines = [line.split("\t") for line in profile("qwen2-audio", "--paper").splitlines()]
    start = next(i for i, line in enumerate(lines) if line[0] == "rate")
    assert lines[start + 1 : start + 6] == [
        ["0", "750", "857", "12.20", "13.40", "0.19", "12.2", "13.40", "0.19"],
        ["0.2", "600", "707", "10.06", "13.32", "0.15", "10.06", "13.32", "0.15"],
        ["0.4", "450", "557", "7.93", "13.24", "0.11", "7.93", "13.24", "0.11"],
        ["0.6", "300", "407", "5.79", "13.17", "0.07", "5.79", "13.17", "0.07"],
        ["0.8", "150", "257", "3.66", "13.09", "0.04", "3.66", "13.09", "0.04"],
    ]


def test_the_paper_s_columns_are_shown_for_its_model_and_setting_alone(profile):
    assert "paper:" not in profile("nano")
    assert "paper:" not in profile("qwen2-audio", "--paper", "--text-tokens", 50)


def test_what_is_not_asked_for_is_the_preset_s(profile):
    for name, condition in (("nano", "cue 0.8"), ("qwen2-audio", "cue 0.2")):
        rows = objects(profile(name, "--json"))["compute"]["rows"]
        assert [row["condition"] for row in rows] == ["full", "original", condition]


def test_shares_of_the_whole_are_counted(profile):
    rows = objects(profile("nano", "--seconds", 90, "--keep", "20%", "--json"))["compute"]["rows"]
    assert [(row["condition"], row["audio_tokens"]) for row in rows][2:] == [("cue 20%", 450)]


def test_a_model_of_an_unknown_family_is_refused(capfd, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "kyutai_speech_to_text"}')
    assert main(["profile", str(tmp_path)]) == 4
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "is a 'kyutai_speech_to_text' model: expected " in err


def test_a_method_that_the_model_cannot_serve_is_refused(capfd, toy_folder):
    assert main(["profile", str(toy_folder), "--method", "omnizip"]) == 2
    assert "omnizip needs the encoder's attention, which toy models" in capfd.readouterr().err


def test_json_has_an_object_for_every_table(profile):
    found = objects(
        profile("qwen2-audio", *SPEECHPRUNE, "--json", "--memory", "24GB", "--rate", 0.2)
    )
    assert list(found) == ["paper", "compute", "memory", "length", "questions", "longest"]
    assert {one["kind"] for one in found.values()} == {"counted"}
    assert [row["condition"] for row in found["compute"]["rows"]] == [
        "full", "original", "speechprune 0.2",
    ]  # fmt: skip
    assert found["length"]["rows"][-1]["seconds"] == 36_000


def test_counting_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from speechprune_cli.main import main;"
        "main(['profile', 'qwen2-audio', '--quiet']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0


def test_markdown_and_csv(profile):
    assert profile("nano", "--markdown").startswith("### nano, 30 s of audio")
    assert profile("nano", "--csv").startswith("table,kind,title,rate,")


def test_a_prompt_beyond_the_context_is_said(capfd):
    assert main(["profile", "qwen2-audio", "--seconds", "600", "--rate", "0.2"]) == 0
    out, err = capfd.readouterr()
    assert err.splitlines() == [
        "warning: full: 15,107 prompt tokens are beyond the context of 8,192 that qwen2-audio was "
        "made for; computed all the same"
    ]
    assert "15,107†" in out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nano", "--seconds", "-1"], 2, "--seconds"),
        (["nano", "--seconds", "0.001"], 2, "--seconds"),
        (["nano", "--text-tokens", "-5"], 2, "--text-tokens"),
        (["nano", "--output-tokens", "0"], 2, "--output-tokens"),
        (["nano", "--rate", "1"], 2, "rate 1 is outside [0, 1)"),
        (["nano", "--method", "magic"], 2, "unknown pruning method 'magic'"),
        (["nano", "--memory", "24"], 2, "--memory 24"),
        (["nano", "--budget", "none"], 2, "--budget"),
        (["nano", "--json", "--csv"], 2, "choose one of"),
        (["nano", "--random-weights"], 2, "--random-weights"),
        (["nano", "--repeats", "3"], 2, "--repeats"),
        (["nano", "--measure", "--memory", "1GB"], 2, "--memory"),
        (["nano", "--plot", "costs.doc"], 2, "--plot"),
        (["nanoo"], 2, "unknown model 'nanoo'"),
        (["/no/such/folder"], 4, "no model folder"),
        (["org/model", "--offline"], 4, "org/model"),
        (["nano", "--measure", "--random-weights", "--quantize", "nf4"], 2, "--quantize"),
        (["nano", "--measure", "--device", "cuda:99"], 2, "cuda:99"),
    ],
)
def test_bad_input_is_one_clear_line(capfd, arguments, code, told):
    assert main(["profile", *arguments]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert told in err


def test_a_model_that_does_not_fit_is_refused_before_it_is_built(capfd, monkeypatch):
    from speechprune_cli import device

    monkeypatch.setattr(device, "free_bytes", lambda _: 16 * 2**30)
    assert main(["profile", "qwen2-audio", "--measure", "--random-weights"]) == 5
    out, err = capfd.readouterr()
    assert out == ""
    assert "building qwen2-audio needs about 31.3 GiB, 16.0 GiB are free" in err


def test_real_weights_are_asked_for_where_there_are_none(capfd, tiny_model_folder, tmp_path):
    shutil.copy(tiny_model_folder / "config.json", tmp_path)
    assert main(["profile", str(tmp_path), "--measure"]) == 4
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "weight file missing" in err


def check_times(found, conditions):
    assert list(found) == ["times", "ratios", "rates"]
    assert {one["kind"] for one in found.values()} == {"measured"}
    rows = {row["condition"]: row for row in found["times"]["rows"]}
    assert list(rows) == conditions
    for row in rows.values():
        for stage in ("encode", "prune", "prefill", "first_token", "ideal"):
            assert 0 < row[stage]["low"] <= row[stage]["median"] <= row[stage]["high"]
        assert row["first_token"]["median"] > row["encode"]["median"]
        assert row["peak_bytes"] > 0
        assert row["reserved_bytes"] is None
    return rows


def test_what_is_not_given_comes_from_the_environment(profile, monkeypatch):
    monkeypatch.setenv("SPEECHPRUNE_METHOD", "uniform")
    monkeypatch.setenv("SPEECHPRUNE_RATE", "0.35 0.7")
    rows = objects(profile("qwen2-audio", "--json"))["compute"]["rows"]
    assert [row["condition"] for row in rows] == ["full", "original", "uniform 0.35", "uniform 0.7"]


def test_settings_beside_a_method_do_not_change_what_it_is(profile):
    named = "speechprune:temperature=1"
    found = objects(
        profile("qwen2-audio", *SPEECHPRUNE, "--method", named, "--rate", 0.5, "--json",
                "--seconds", 300)
    )  # fmt: skip
    counted = {}
    for row in found["memory"]["rows"]:
        counted.setdefault(row.pop("condition"), []).append(row)
    assert counted[f"{named} 0.5"] == counted["speechprune 0.5"]


def test_a_real_model_is_measured(profile, tiny_model_folder, tmp_path):
    plot = tmp_path / "times.svg"
    found = objects(
        profile(tiny_model_folder, *MEASURED, "--output-tokens", 3, "--batch-size", 2, "--json",
                "--method", "speechprune", "--method", "uniform", "--method", "cue:reach=0",
                "--plot", plot)
    )  # fmt: skip
    conditions = ["full", "original", "speechprune 0.5", "uniform 0.5", "cue:reach=0 0.5"]
    rows = check_times(found, conditions)
    assert (rows["full"]["length"], rows["uniform 0.5"]["length"]) == (75 + 9, 38 + 9)
    assert all(row["decode"]["median"] > 0 for row in rows.values())
    assert rows["full"]["machine"]["weights"].startswith("local-")
    assert "speechprune 0.5" in plot.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano", "a folder with nothing but config.json"])
def test_random_weights_need_no_files_but_the_configuration(
    profile, tiny_model_folder, tmp_path, name
):
    if name != "nano":
        shutil.copy(tiny_model_folder / "config.json", tmp_path)
        name = tmp_path
    found = objects(
        profile(name, *SPEECHPRUNE, *MEASURED, "--repeats", 1, "--random-weights", "--json")
    )
    rows = check_times(found, ["full", "original", "speechprune 0.5"])
    assert rows["full"]["machine"]["weights"] == "random weights"
    ratios = {row["condition"]: row for row in found["ratios"]["rows"]}
    assert ratios["full"]["faster_than_full"] == 1
    assert ratios["full"]["over_ideal"] is None
    assert ratios["speechprune 0.5"]["over_ideal"] > 0
    for row in found["rates"]["rows"]:
        assert row["share_of_peak"] == pytest.approx(
            row["counted_prefill_tflops"]
            / row["measured_prefill_seconds"]
            / row["matmul_peak_tflops_per_second"]
        )


def test_random_weights_have_the_shapes_of_the_real_ones():
    from speechprune_cli.config import load_preset
    from speechprune_cli.pipeline import load
    from speechprune_cli.profiler.architecture import shape_of
    from speechprune_cli.profiler.measured import load as load_measured

    preset, place = load_preset("nano"), {"device": "cpu", "dtype": "auto", "quantize": "none"}
    made = load_measured(
        preset, shape_of(preset), made_up=True, revision=None, offline=True, **place
    )
    made_up = made.model.state_dict()
    real = load("nano", offline=True, cache=False).model.model.state_dict()
    assert {name: (w.shape, w.dtype) for name, w in made_up.items()} == {
        name: (w.shape, w.dtype) for name, w in real.items()
    }


def test_a_condition_that_does_not_fit_costs_only_its_own_row(
    capfd, monkeypatch, tiny_model_folder
):
    from speechprune_cli.errors import OutOfMemoryError
    from speechprune_cli.profiler.measured import Bench

    reads = Bench.read

    def read(self, prompts):
        if prompts[0].audio_tokens == 75:
            raise OutOfMemoryError("out of memory on cpu")
        return reads(self, prompts)

    monkeypatch.setattr(Bench, "read", read)
    arguments = [str(tiny_model_folder), *SPEECHPRUNE, *MEASURED, "--budget", "40"]
    assert main(["profile", *arguments]) == 1
    out, err = capfd.readouterr()
    assert "full\t75\t84\t–\t–" in out
    assert "full: out of memory on cpu." in out
    assert "speechprune 0.5\t20\t29\t" in out
    assert err == "error: did not fit into memory: full, original\n"


def test_the_plot_of_growth(profile, tmp_path):
    plot = tmp_path / "growth.svg"
    profile("qwen2-audio", "--plot", plot, "--memory", "24GB", "--quiet")
    text = plot.read_text()
    assert "counted cost over length" in text
    assert "unpruned prompt fills the context" in text
