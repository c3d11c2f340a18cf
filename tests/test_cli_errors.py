"""Every mistake of a user is one clear line on stderr and the right exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import typer
from conftest import make_audio

from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main
from speechprune_cli.running import run as run_app

QUESTION = "When is the report due?"
USAGE, BAD_AUDIO, BAD_MODEL = 2, 3, 4


@pytest.fixture
def fails(capfd):
    """Run a command line in this process and give the exit code and its one line on stderr."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        *warnings, line = captured.err.splitlines()
        assert all(warning.startswith("warning: ") for warning in warnings)
        assert line.startswith("error: ")
        return code, line.removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a.wav", ""], "the question is empty"),
        (["a.wav", QUESTION, " "], "the question is empty"),
        (["a.wav"], "no question given"),
        (["-"], "no question given"),
        (["-", "-"], "standard input is the recording"),
        (["a.wav", "-", "-"], "- is given twice"),
        ([], "Missing argument 'AUDIO'"),
        (["a.wav", QUESTION, "--rate", "1"], "rate 1 is outside [0, 1)"),
        (["a.wav", QUESTION, "--rate=-0.1"], "rate -0.1 is outside [0, 1)"),
        (["a.wav", QUESTION, "--rate", "nan"], "rate nan is outside [0, 1)"),
        (["a.wav", QUESTION, "--rate", "much"], "Invalid value for '--rate'"),
        (["a.wav", QUESTION, "--rate", "20%"], "--keep 20% keeps a fifth"),
        (["a.wav", __file__, QUESTION], f"{__file__} is a file, no question"),
        (["a.wav", QUESTION, "--keep", "0"], "at least one token"),
        (["a.wav", QUESTION, "--keep", "some"], "keep some: give a share of the recording, 20%"),
        (["a.wav", QUESTION, "--keep", "120%"], "keep 120%"),
        (["a.wav", QUESTION, "--keep", "5", "--rate", "0.5"], "either a rate or how much to keep"),
        (["a.wav", QUESTION, "--query", "answer"], "'answer' is not one of"),
        (["a.wav", QUESTION, "--budget", "0"], "--budget 0: give a positive number"),
        (["a.wav", QUESTION, "--budget", "some"], "--budget some: give a positive number"),
        (["a.wav", QUESTION, "--method", "best"], "unknown pruning method 'best': choose from"),
        (["a.wav", QUESTION, "--method", "Cuue"], "'Cuue' (do you mean cue?): choose from"),
        (["a.wav", QUESTION, "--set", "heat=2"], "unknown key 'heat'"),
        (["a.wav", QUESTION, "--set", "temperature"], "write key=value"),
        (["a.wav", QUESTION, "--set", "reach=2"], "reach is 2"),
        (["a.wav", QUESTION, "--set", "rate=0.1"], "unknown key 'rate'"),
        (["a.wav", QUESTION, "--position", "middle"], "'middle' is not one of"),
        (["a.wav", QUESTION, "--dtype", "int4"], "'int4' is not one of"),
        (["a.wav", QUESTION, "--max-new-tokens", "0"], "--max-new-tokens"),
        (["a.wav", QUESTION, "--choice", "one"], "at least two options"),
        (["a.wav", QUESTION, "--choice", "a", "--choice", "a"], "at least two options"),
        (["a.wav", QUESTION, "--choice", "a", "--choice", ""], "--choice: an option is empty"),
        (["a.wav", QUESTION, "--model", "gpt"], "qwen2-audio"),
        (["a.wav", QUESTION, "--frobnicate"], "No such option: --frobnicate"),
    ],
)
def test_usage(fails, arguments, complaint):
    code, line = fails("ask", *arguments)
    assert code == USAGE
    assert complaint in line


def test_a_line_is_no_page(fails):
    code, line = fails("ask", "a.wav", QUESTION, "--rate", "x" * 5000)
    assert code == USAGE
    assert len(line) < 1300
    assert line.startswith("Invalid value for '--rate'")


def test_unknown_commands(fails):
    assert fails("train") == (USAGE, "No such command 'train'.")


def test_argument_errors_come_before_heavy_imports():
    program = (
        "import sys; from speechprune_cli.main import main;"
        "code = main(['ask', 'a.wav', 'Why?', '--method', 'phase1', '--set', 'heat=2']);"
        "print(code, sorted({'torch', 'transformers', 'numpy', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "2 []\n"


def write_bytes(content):
    return lambda path: path.write_bytes(content)


def write_samples(samples):
    return lambda path: soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: None, id="missing"),
        pytest.param(lambda path: path.mkdir(), id="a folder"),
        pytest.param(write_bytes(b""), id="empty"),
        pytest.param(write_bytes(b"Dear diary, today we met. " * 50), id="text"),
        pytest.param(write_samples(np.full(8000, np.nan, np.float32)), id="NaN"),
        pytest.param(write_samples(np.zeros(0, np.float32)), id="no samples"),
        pytest.param(write_samples(make_audio(0.001).samples), id="less than a token"),
    ],
)
def test_bad_recordings(fails, make, tmp_path, tiny_model_folder):
    path = tmp_path / "bad.wav"
    make(path)
    code, line = fails("ask", path, QUESTION, "--model", tiny_model_folder)
    assert code == BAD_AUDIO
    assert str(path) in line


@pytest.mark.parametrize(
    ("samples", "warning"),
    [(np.zeros(16_000, np.float32), "silence"), (make_audio(0.05).samples, "0.050 s")],
)
def test_silence_and_snippets_are_warned_about_and_answered(
    samples, warning, tmp_path, tiny_model_folder, capfd
):
    path = tmp_path / "odd.wav"
    write_samples(samples)(path)
    assert main(["ask", str(path), QUESTION, "--model", str(tiny_model_folder)]) == 0
    captured = capfd.readouterr()
    first, *others = captured.err.splitlines()
    assert first.startswith("warning: ")
    assert warning in first
    assert all("little in the recording stands out" in other for other in others)
    assert captured.out.endswith("\n")


def test_truncated_recording_is_warned_about(tmp_path, tiny_model_folder, capfd):
    path = tmp_path / "cut.wav"
    write_samples(make_audio(3).samples)(path)
    path.write_bytes(path.read_bytes()[:100_000])
    assert main(["ask", str(path), QUESTION, "--model", str(tiny_model_folder)]) == 0
    assert "warning: " in (err := capfd.readouterr().err)
    assert "truncated" in err


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "good.wav"
    write_samples(make_audio(1).samples)(path)
    return path


def test_model_folder_without_weights(fails, tmp_path, tiny_model_folder, recording):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    (folder / "model.safetensors").unlink()
    code, line = fails("ask", recording, QUESTION, "-m", folder)
    assert code == BAD_MODEL
    assert "missing" in line
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    code, line = fails("ask", recording, QUESTION, "-m", folder)
    assert code == BAD_MODEL
    assert "safetensors" in line


def test_hub_model_offline(fails, recording):
    code, line = fails("ask", recording, QUESTION, "-m", "no-such/model", "--offline")
    assert code == BAD_MODEL
    assert "no-such/model" in line
    assert "--offline" in line


def test_a_gpu_that_is_not_there(fails, recording, tiny_model_folder):
    arguments = ("ask", recording, QUESTION, "-m", tiny_model_folder)
    code, line = fails(*arguments, "--device", "cuda:99")
    assert code == USAGE
    assert "cuda:99" in line
    code, line = fails(*arguments, "--device", "tpu")
    assert code == USAGE
    assert "auto, cpu, cuda" in line


def test_more_tokens_than_there_are(recording, tiny_model_folder, capfd):
    arguments = ["prune", recording, QUESTION, "-m", tiny_model_folder, "--keep", "9000", "--json"]
    assert main([str(each) for each in (*arguments, "--method", "uniform")]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["pruning"]["rate_of_recording"] == 0
    assert "--keep 9000 is more than the" in err
    assert err.endswith(": all are kept\n")
    assert err.count("\n") == 1


def test_an_error_of_the_system_that_nobody_foresaw_is_not_called_a_full_disk():
    app = typer.Typer()

    @app.command()
    def fall() -> None:
        raise OSError("a library's own words")

    with pytest.raises(OSError, match="a library's own words"):
        run_app(app, [], "speechprune")


def test_an_amount_that_the_method_does_not_take(recording, tiny_model_folder, capfd):
    arguments = ["prune", recording, QUESTION, "-m", tiny_model_folder, "--method", "original"]
    assert main([str(each) for each in (*arguments, "--keep", "5")]) == 0
    expected = "warning: original settles by itself how much it keeps: --keep has no effect\n"
    assert capfd.readouterr().err == expected


def test_a_placeholder_in_the_question(fails, recording, tiny_model_folder):
    code, line = fails("ask", recording, "What is <|AUDIO|>?", "-m", tiny_model_folder)
    assert code == USAGE
    assert "<|AUDIO|>" in line
