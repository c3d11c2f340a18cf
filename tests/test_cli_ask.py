"""`speechprune ask`, through the real command line and a tiny real model."""

from __future__ import annotations

import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from conftest import make_audio
from recordings import voice, write_tracks
from spoken import Imagining
from tiny_models import forget

from speechprune_cli.config import PACKAGE
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main
from speechprune_cli.report import facts

EXAMPLE = str(PACKAGE / "examples" / "meeting.ogg")
COMMAND = [sys.executable, "-m", "speechprune_cli"]
QUESTION = "When is the report due?"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "meeting.wav"
    soundfile.write(path, make_audio(40).samples, SAMPLE_RATE, subtype="FLOAT")
    return str(path)


@pytest.fixture
def ask(tiny_model_folder, recording, capfd, monkeypatch):
    """Run `speechprune ask RECORDING ...` in this process: stdout, once it has succeeded."""
    monkeypatch.setenv("SPEECHPRUNE_MODEL", str(tiny_model_folder))
    monkeypatch.setenv("SPEECHPRUNE_METHOD", "speechprune")

    def run(*arguments):
        code = main(["ask", recording, *map(str, arguments)])
        captured = capfd.readouterr()
        assert (code, captured.err) == (0, "")
        return captured.out

    return run


def ask_json(ask, *arguments):
    return [json.loads(line) for line in ask(*arguments, "--json").splitlines()]


def given(monkeypatch, content: bytes):
    """Standard input, as the program finds it."""
    file = io.TextIOWrapper(io.BytesIO(content), "latin-1")  # a file's is another
    monkeypatch.setattr(sys, "stdin", file)


def test_questions_may_come_from_standard_input(ask, monkeypatch):
    asked = ["When is the report due?", "Wo ist Köln?", "Who?"]
    wanted = ask_json(ask, *asked)
    given(monkeypatch, "\ufeffWhen is the report due?\r\n\n  Wo ist Köln?".encode())
    found = ask_json(ask, "-", "Who?")
    assert [each["question"] for each in found] == asked
    assert [each["answer"] for each in found] == [each["answer"] for each in wanted]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b" \n\n", "standard input holds no question"),
        (b"Who?\n...\n", "error: line 2 of standard input: the question '...' holds no word"),
        (b"Who?\nK\xf6ln?\n", "standard input is not in UTF-8, save it so"),
        (bytes(range(256)), "standard input is not in UTF-8, save it so"),
        ("Who?".encode("utf-16"), "standard input is not in UTF-8, save it so"),
        (bytes(range(128)), "error: line 1 of standard input: the question '"),
    ],
)
def test_lines_that_are_no_questions(content, complaint, recording, monkeypatch, capfd):
    given(monkeypatch, content)
    assert main(["ask", recording, "-"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert complaint in err


def test_in_a_pipe_only_the_answer_comes_out(ask):
    answer = ask(QUESTION, "--max-new-tokens", 8)
    (fields,) = ask_json(ask, QUESTION, "--max-new-tokens", 8)
    assert answer.strip() == fields["answer"]
    assert ask(QUESTION, "--max-new-tokens", 8, "--quiet") == answer


def test_a_model_whose_tokens_are_not_aligned_is_told_of(
    tiny_model_folder, recording, capfd, monkeypatch
):
    """Random weights: the question resembles no part of the recording."""
    monkeypatch.setenv("SPEECHPRUNE_MODEL", str(tiny_model_folder))
    assert main(["ask", recording, QUESTION, "--json", "--method", "cue", "--rate", "0.8"]) == 0
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("warning: little in the recording stands out for this question")
    pruning = json.loads(captured.out)["pruning"]
    assert pruning["warning"] == line.removeprefix("warning: ")
    assert (pruning["method"], pruning["merged"]) == ("cue", False)


@pytest.mark.parametrize(("longest", "shown"), [(60, QUESTION), (10, "When is th…")])
def test_a_warning_says_which_of_several_questions_it_is_of(
    tiny_model_folder, recording, capfd, monkeypatch, longest, shown
):
    monkeypatch.setenv("SPEECHPRUNE_MODEL", str(tiny_model_folder))
    monkeypatch.setattr("speechprune_cli.commands.ask.LONGEST", longest)
    assert main(["ask", recording, "Who?", QUESTION, "--method", "cue", "--rate", "0.8"]) == 0
    *_, line = capfd.readouterr().err.splitlines()
    assert line.startswith(f"warning: {shown}: little in the recording stands out")


def test_json_tells_everything(ask, recording):
    (fields,) = ask_json(ask, QUESTION, "--rate", 0.4, "--seed", 3)
    documented = re.findall(r"^    (\w+)(?:, (\w+))? +(?=[^ ])(?!\(`prune`\))", facts.__doc__, re.M)
    assert set(fields) == {name for names in documented for name in names if name}
    assert fields["question"] == QUESTION
    assert fields["audio"]["source"] == recording
    assert fields["audio"]["source_seconds"] == fields["audio"]["encoded_seconds"] == 40
    pruning = fields["pruning"]
    assert (pruning["tokens"], pruning["budget"], pruning["kept"]) == (1000, 750, 450)
    assert (pruning["rate_of_budget"], pruning["rate_of_recording"]) == (0.4, 0.55)
    assert sum(fields["timeline"]["kept"]) == fields["prompt"]["audio_tokens"] == 450
    assert sum(fields["timeline"]["tokens"]) == 1000
    assert len(fields["timeline"]["scores"]) == 40
    assert set(fields["seconds"]) == {"encode", "encode_cached", "prune", "prefill", "decode"}
    assert QUESTION in fields["prompt"]["text"]
    assert fields["tflops_saved"] > 0


def test_many_questions_are_many_lines_and_one_encoding(ask):
    questions = [QUESTION, "Who said so?", "Why?"]
    lines = ask_json(ask, *questions, "--max-new-tokens", 2, "--no-cache")
    assert [line["question"] for line in lines] == questions
    assert len({line["seconds"]["encode"] for line in lines}) == 1
    assert [line["seconds"]["encode_cached"] for line in lines] == [False] * 3
    assert len({json.dumps(line["timeline"]) for line in lines}) == 3


def test_of_several_tracks_one_is_chosen(tiny_model_folder, tmp_path, capfd, monkeypatch):
    """Each has a place of its own in the cache."""
    monkeypatch.setenv("SPEECHPRUNE_MODEL", str(tiny_model_folder))
    path = tmp_path / "talk.mp4"
    write_tracks(path, [voice(2, 16000), voice(1, 16000)], 16000, "aac", default=1)

    def run(*options):
        code = main(["ask", str(path), QUESTION, "--max-new-tokens", "1", "--json", *options])
        out, err = capfd.readouterr()
        return code, err, json.loads(out)["audio"] if out else None

    code, err, audio = run()
    assert (code, round(audio["encoded_seconds"])) == (0, 1)
    assert "2 audio tracks: only track 2 is read, --track takes another" in err
    code, err, audio = run("--track", "1")
    assert (code, "tracks" in err, round(audio["encoded_seconds"])) == (0, False, 2)
    code, err, _ = run("--track", "3")
    assert (code, err) == (2, f"error: --track 3: the audio tracks of {path} are 1 to 2\n")


def test_a_second_run_finds_the_encoding_in_the_cache(ask):
    runs = [ask_json(ask, QUESTION, "--max-new-tokens", 4)[0] for _ in range(2)]
    assert runs[1]["seconds"]["encode_cached"]
    assert runs[0]["answer"] == runs[1]["answer"]


def test_choices(ask):
    choices = ("--choice", "on Friday", "--choice", "in the red house")
    (fields,) = ask_json(ask, QUESTION, *choices)
    assert set(fields["probabilities"]) == set(fields["choices"]) == {choices[1], choices[3]}
    assert sum(fields["probabilities"].values()) == pytest.approx(1)
    best = max(fields["probabilities"], key=fields["probabilities"].get)
    assert ask(QUESTION, *choices) == f"{best}\n"
    assert fields["answer"] == best


@pytest.mark.parametrize(
    ("arguments", "stages"),
    [
        (["--keep", 100], (1000, 750, 100)),
        (["--budget", "all", "--rate", 0.5], (1000, 1000, 500)),
        (["--budget", 400, "--rate", 0.5], (1000, 400, 200)),
        (["--method", "original"], (1000, 750, 750)),
        (["--method", "full"], (1000, 750, 1000)),
        (["--method", "phase1", "--set", "temperature=0.5", "--rate", 0.8], (1000, 750, 150)),
    ],
)
def test_pruning_options_are_followed(ask, arguments, stages):
    (fields,) = ask_json(ask, QUESTION, *arguments, "--max-new-tokens", 1)
    pruning = fields["pruning"]
    assert tuple(pruning[stage] for stage in ("tokens", "budget", "kept")) == stages
    assert sum(fields["timeline"]["kept"]) == stages[-1]


def test_flag_then_environment_then_preset(ask, monkeypatch):
    def pruning(*arguments):
        (fields,) = ask_json(ask, QUESTION, *arguments, "--max-new-tokens", 1)
        return fields["pruning"]["method"], fields["pruning"]["kept"]

    assert pruning() == ("speechprune", 600)
    monkeypatch.setenv("SPEECHPRUNE_RATE", "0.8")
    monkeypatch.setenv("SPEECHPRUNE_METHOD", "uniform")
    assert pruning() == ("uniform", 150)
    assert pruning("--rate", 0.6, "--method", "phase1") == ("phase1", 300)


@pytest.mark.slow
def test_seed_goes_to_methods_that_draw(ask):
    def kept(*arguments):
        (fields,) = ask_json(ask, QUESTION, "--method", "random", *arguments)
        return fields["timeline"]["kept"], fields["pruning"]["settings"]

    assert kept("--seed", 1) == kept("--set", "seed=1") != kept("--seed", 2)
    assert kept() == kept("--seed", 0)


def test_standard_input(tiny_model_folder, recording, capfd, monkeypatch):
    with Path(recording).open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["ask", "-", QUESTION, "-m", str(tiny_model_folder), "--json"]) == 0
    fields = json.loads(capfd.readouterr().out)
    assert fields["audio"]["source"] == "-"
    assert fields["audio"]["encoded_seconds"] == 40


class Terminal:
    """A command running in a terminal of its own, 70 columns wide."""

    def __init__(self, *arguments: str, **environment: str):
        pty = pytest.importorskip("pty", reason="terminals are POSIX's")
        self.screen, inside = pty.openpty()
        self.text = ""
        env = {k: v for k, v in os.environ.items() if k not in {"FORCE_COLOR", "NO_COLOR", "CI"}}
        # a test run in the background ignores interrupts, and the command would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
        env |= {"COLUMNS": "70", "LINES": "40", "TERM": "xterm-256color", **environment}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=inside, stdout=inside, stderr=inside, env=env
        )
        os.close(inside)

    def type(self, text):
        """Press keys."""
        os.write(self.screen, text.encode())

    def read_until(self, wanted):
        """Everything up to `wanted`, or up to the end of the command where it is None."""
        while wanted is None or wanted not in self.text:
            ready, _, _ = select.select([self.screen], [], [], 600)
            assert ready, f"waited in vain for {wanted!r}, saw {self.text!r}"
            try:
                self.text += os.read(self.screen, 4096).decode(errors="replace")
            except OSError:
                break
        seen, _, self.text = self.text.partition(wanted or "\0")
        return seen

    def interrupt(self):
        """Ctrl-C, and the exit code.

        A signal that arrives just before readline waits for a key is seen at the next one only.
        """
        for _ in range(5):
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(timeout=20)
        raise AssertionError("the command does not end")


@pytest.mark.slow
def test_a_conversation_on_a_terminal(tiny_model_folder, recording):
    arguments = ("ask", recording, "--model", str(tiny_model_folder), "--max-new-tokens", "4")
    terminal = Terminal(*arguments, NO_COLOR="1")
    assert "40.0 s" in terminal.read_until("> ")
    terminal.type("??\n")
    assert "the question '??' holds no word" in terminal.read_until("> ")
    for question in ("Who?", "When?"):
        terminal.type(f"{question}\n")
        shown = terminal.read_until("> ")
        assert not re.search(r"\x1b\[[\d;]*3\dm", shown), "NO_COLOR is honoured"
        shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown)
        strips = [line.strip("\r") for line in shown.split("\n") if line.startswith("00:00 ")]
        assert [len(strip) for strip in strips] == [70]
        assert strips[0].endswith(" 00:40")
        assert "▲" in shown
        assert "N 1,000, B1 750, k 600 tokens" in shown
        assert all(step in shown for step in ("encode", "prune", "prefill", "decode", "TFLOPs"))
    assert terminal.interrupt() == 130


@pytest.mark.slow
def test_a_terminal_shows_the_question_above_the_shares_of_its_options(
    tiny_model_folder, recording
):
    options = ("--choice", "Friday", "--choice", "Monday")
    terminal = Terminal("ask", recording, QUESTION, *options, "-m", str(tiny_model_folder))
    above, question, below = terminal.read_until(None).partition(QUESTION)
    assert question
    assert "Friday" not in above
    assert "Friday" in below


class Interrupted(Imagining):
    """Ctrl-C in the middle of what nobody has begun on."""

    def transcribe(self, samples, language=None, on_progress=lambda _: None, done=()):
        (whole,) = super().transcribe(samples, language)
        middle = len(samples) // 2
        if not done:
            yield replace(whole, end=middle)
            raise KeyboardInterrupt
        yield replace(whole, start=middle, words=())


def test_an_interrupted_transcription_goes_on(tiny_transcriber, recording, capfd, monkeypatch):
    monkeypatch.setattr("speechprune_cli.transcripts.recogniser.Recogniser", Interrupted)
    asked = ["ask", recording, QUESTION, "-m", str(tiny_transcriber), "--method", "uniform"]
    told = "warning: interrupted: what was recognised up to 00:20 is kept, the same command goes on"
    assert main([*asked, "--language", "de"]) == 130
    assert capfd.readouterr().err == f"{told} there\n"
    assert main([*asked, "--language", "de"]) == 0
    assert capfd.readouterr().err == ""
    assert main([*asked, "--language", "en"]) == 130
    assert main([*asked, "--language", "en", "--verbose"]) == 0
    assert f"\n{recording}: recognising goes on at 00:20\n" in capfd.readouterr().err


def test_a_closed_pipe_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "models"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
@pytest.mark.parametrize("arguments", [["models"], ["profile", "nano", "--json"], ["--help"]])
def test_a_full_disk_behind_stdout_is_one_line(arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "error: cannot write the result: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "nano",
        pytest.param("tiny_model_folder", marks=pytest.mark.slow),
        pytest.param("tiny_voxtral_folder", marks=pytest.mark.slow),
    ],
)
def test_no_library_warning_reaches_stderr(model, recording, request):
    if model == "nano":  # of any other recording it says that it is no model for it
        recording = EXAMPLE
    else:
        model = request.getfixturevalue(model)
    command = [sys.executable, "-W", "error", *COMMAND[1:], "ask", recording, QUESTION, "--quiet"]
    done = subprocess.run(
        [*command, "--model", str(model), "--method", "speechprune", "--max-new-tokens", "4"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_is_light_and_names_the_commands():
    program = (
        "import sys; from speechprune_cli.main import main; code = main(['--help']);"
        "heavy = {'torch', 'transformers', 'numpy', 'av', 'matplotlib'};"
        "heavy |= {'speechprune_cli.bench.run'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert all(command in done.stdout for command in ("ask", "prune", "eval", "models"))
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_version(capsys):
    from speechprune_cli import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"speechprune {__version__}\n"


@pytest.mark.slow
def test_a_bad_question_does_not_end_a_conversation(tiny_model_folder, tmp_path, monkeypatch):
    """Typed on a terminal: a stray byte, a control token and an emoji between two questions."""
    import pty

    recording = tmp_path / "a.wav"
    soundfile.write(recording, make_audio(1.0).samples, 16000)
    command = ["ask", str(recording), "--model", str(tiny_model_folder), "--max-new-tokens", "3"]
    bad = [b"wh\xffen", b"<|im_end|> when", "🎉".encode()]
    typed = [QUESTION.encode(), *bad, QUESTION.encode(), b""]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "speechprune_cli", *command])
    shown = b""
    for line in typed:
        while not shown.endswith(b"> "):
            shown += os.read(terminal, 4096)
        os.write(terminal, line + b"\n")
        shown += b"\n"
    with suppress(OSError):
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    for told in (b"no UTF-8", b"control token", b"holds no word"):
        assert shown.count(told) == 1
    assert shown.count(b"prefill") == 2
    assert b"Traceback" not in shown


def test_all_questions_are_checked_before_the_first_is_answered(tiny_model_folder, tmp_path, capfd):
    recording = tmp_path / "a.wav"
    soundfile.write(recording, make_audio(1.0).samples, 16000)
    asked = [QUESTION, "<|AUDIO|> when", QUESTION]
    assert main(["ask", str(recording), *asked, "--model", str(tiny_model_folder)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "control token" in err


def test_what_the_model_has_no_tokens_for_is_warned_of_once(tiny_model_folder, tmp_path, capfd):
    shutil.copytree(tiny_model_folder, tmp_path / "model")
    forget(tmp_path / "model", "£€")
    soundfile.write(tmp_path / "a.wav", make_audio(1).samples, SAMPLE_RATE)
    asked = ("ask", tmp_path / "a.wav", "Is it £50, or £60?", "-m", tmp_path / "model")
    assert main([str(each) for each in (*asked, "--max-new-tokens", 2)]) == 0
    assert capfd.readouterr().err.count("has no tokens for '£', and reads the rest alone") == 1
    assert main([*map(str, asked), "--choice", "£50", "--choice", "€50"]) == 2
    assert "cannot tell '£50' from '€50': the same tokens" in capfd.readouterr().err
