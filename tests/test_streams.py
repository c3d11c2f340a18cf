"""Standard streams that are closed, full or narrow: an exit code and one line, no traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import make_audio

from speechprune_cli.escaping import json_text, printable
from speechprune_cli.output import Output

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells of POSIX")
QUESTION = "When is the report due?"


def shell(redirection, *arguments, **variables):
    """A command line with its streams as a shell redirects them."""
    command = [sys.executable, "-m", "speechprune_cli", *map(str, arguments)]
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        capture_output=True,
        env={**os.environ, **variables},
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("streams") / "a.wav"
    soundfile.write(path, make_audio(2.0).samples, 16000)
    return path


@pytest.mark.parametrize(
    "arguments", [["ask", "-", QUESTION], ["ask", "a.wav"], ["prune", "-", QUESTION]]
)
def test_a_closed_standard_input_is_a_usage_error(arguments):
    done = shell("<&-", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize(
    "arguments",
    [["--version"], pytest.param(["models"], marks=pytest.mark.slow), ["report", "--help"]],
)
def test_a_result_that_cannot_be_written_is_an_error(redirection, arguments):
    done = shell(redirection, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: cannot write the result: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_a_result_comes_out_without_standard_error(redirection, recording, tiny_model_folder):
    options = ["--model", tiny_model_folder, "--max-new-tokens", 5, "--verbose"]
    expected = shell("", "ask", recording, QUESTION, *options)
    assert expected.returncode == 0, expected.stderr
    assert expected.stderr
    done = shell(redirection, "ask", recording, QUESTION, *options)
    assert (done.returncode, done.stdout) == (0, expected.stdout)


@pytest.mark.slow
def test_closed_and_full_streams_of_an_answer(recording, tiny_model_folder):
    for redirection in (">&-", ">/dev/full"):
        for form in ([], ["--json"]):
            done = shell(redirection, "ask", recording, QUESTION, "-m", tiny_model_folder, *form)
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1].startswith(b"error: cannot write the result: ")
            assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_loses_no_character(encoding, monkeypatch):
    fields = {"question": "wann früh? “🎉” \udcff"}
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", file)
    Output(json=True).record(fields)
    assert json.loads(file.buffer.getvalue().decode(encoding)) == fields


def test_a_folder_that_is_gone(tmp_path):
    (tmp_path / "gone").mkdir()
    command = f'cd {tmp_path}/gone && rmdir ../gone && exec "$@"'
    arguments = ["eval", "jsonl", "--data", "d"]
    done = subprocess.run(
        ["/bin/sh", "-c", command, "sh", sys.executable, "-m", "speechprune_cli", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 2
    assert b"is gone" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_names_that_are_no_utf8_are_kept_and_shown(recording, tiny_model_folder, tmp_path):
    from safetensors import safe_open

    name = os.fsencode(tmp_path) + b"/b\xff[/b]\x1b[31m.wav"
    os.mkdir(os.path.dirname(name))  # noqa: PTH102, PTH120
    with open(name, "wb") as copy:  # noqa: PTH123 - a name that is no text
        copy.write(recording.read_bytes())
    kept = tmp_path / "kept.safetensors"
    options = ["-m", tiny_model_folder, "-o", kept, "--verbose"]
    done = shell("", "prune", os.fsdecode(name), QUESTION, *options)
    assert done.returncode == 0, done.stderr
    assert rb"b\udcff[/b]\x1b[31m.wav" in done.stderr
    with safe_open(kept, framework="np") as file:
        stored = json.loads(file.metadata()["audio"])
    assert os.fsencode(stored["source"]) == name


def test_json_text_and_its_way_back():
    for text in ("a", "\udcff\\udcff", "früh 🎉", '"\\', "\x1b\n"):
        written = json_text({text: text})
        written.encode()
        assert json.loads(written) == {text: text}
    with pytest.raises(ValueError, match="JSON"):
        json_text(np.nan)


def test_what_is_printable_stays():
    for text in ("früh", "何時", "متى", "👩‍👩‍👧", "a\nb\tc", "[/b] $5 | <b>"):
        assert printable(text) == text
    assert printable("a\x1b[31mb\udcff\x07\r") == "a\\x1b[31mb\\udcff\\x07\\r"


@pytest.mark.parametrize(
    "module", ["typer", "speechprune_cli.running", "speechprune_cli.commands.build"]
)
def test_an_interrupt_while_the_command_line_is_imported(module):
    code = f"""
import runpy, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.argv = ["speechprune", "--version"]
runpy.run_module("speechprune_cli", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_too_little_memory_to_start():
    command = [sys.executable, "-m", "speechprune_cli", "models"]
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -v 300000 && exec "$@"', "sh", *command],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 5
    assert done.stderr.startswith(b"error: too little memory")
    assert done.stderr.count(b"\n") == 1
