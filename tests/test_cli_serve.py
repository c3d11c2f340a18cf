"""`speechprune serve` and `ask --server local`, through the real command line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import soundfile
from conftest import make_audio
from running_server import chat, running, stop

from speechprune_cli import options
from speechprune_cli.config import PACKAGE
from speechprune_cli.errors import AudioError, ServerError, SpeechPruneError, UsageError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main
from speechprune_cli.options.serving import KEY_VARIABLE, ServingOptions
from speechprune_cli.pipeline import load
from speechprune_cli.serving.limits import Limits
from speechprune_cli.serving.refusals import Refusal, error_of, refusal_of
from speechprune_cli.serving.remembered import Heard, Remembered
from speechprune_cli.serving.sockets import own_socket, socket_path

EXAMPLES = PACKAGE / "examples"
EXAMPLE = str(EXAMPLES / "meeting.ogg")
QUESTION = (EXAMPLES / "meeting.question").read_text().strip()
ANSWER = (EXAMPLES / "meeting.answer").read_text().strip()
COMMAND = [sys.executable, "-m", "speechprune_cli"]
USAGE, BAD_AUDIO, SERVER = UsageError.exit_code, AudioError.exit_code, ServerError.exit_code


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "meeting.wav"
    soundfile.write(path, make_audio(12).samples, SAMPLE_RATE, subtype="FLOAT")
    return str(path)


@pytest.fixture(scope="module")
def served(tiny_model_folder, tmp_path_factory, recording):
    """A server with a socket where `--server local` looks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        patch.setenv("SPEECHPRUNE_MODEL", str(tiny_model_folder))
        model = options.ModelOptions(model=str(tiny_model_folder), dtype="float32")
        session = load(str(tiny_model_folder), dtype="float32")
        session.encode(recording)
        path = socket_path(model.preset, model.identity)
        with running(session, key="of other doors", path=path) as server:
            yield server


def run(capfd, *arguments):
    code = main(["ask", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def unmeasured(out):
    """JSON without what is measured."""
    fields = [json.loads(line) for line in out.splitlines()]
    for each in fields:
        for name in ("seconds", "peak_memory_bytes"):
            del each[name]
    return fields


SHORT = ["--max-new-tokens", "2"]
WAYS = {
    "plain": [],
    "verbose": ["--verbose", "--max-new-tokens", "2"],
    "options": ["--choice", "on Friday", "--choice", "never"],
    "pruned": ["--method", "uniform", "--keep", "20%", "--position", "original", *SHORT],
    "settings": ["--method", "speechprune", "--set", "temperature=0.5", "--rate", "0.5", *SHORT],
    "an amount without effect": ["--method", "full", "--keep", "3", *SHORT],
    "more than there is": ["--keep", "3000", "--show", "--budget", "all", *SHORT],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_local_server_gives_what_one_process_gives(served, recording, capfd, way):
    questions = ["When is the report due?", "Who said so?"]
    here = run(capfd, recording, *questions, *WAYS[way])
    there = run(capfd, recording, *questions, *WAYS[way], "--server", "local")
    assert here == there
    assert here[0] == 0


def test_json_of_a_local_server_is_the_same(served, recording, capfd):
    arguments = (recording, "When is the report due?", "--json", "--track", "1")
    _, here, _ = run(capfd, *arguments)
    _, there, _ = run(capfd, *arguments, "--server", "local")
    assert unmeasured(here) == unmeasured(there)


def test_a_model_that_reads_is_served_too(tiny_transcriber, imagining, capfd, tmp_path):
    """With the words that were read, and their language."""
    talk = tmp_path / "talk.wav"
    soundfile.write(talk, make_audio(9).samples, SAMPLE_RATE)
    model = options.ModelOptions(model=str(tiny_transcriber), dtype="float32")
    asked = ("Why so?", "-m", tiny_transcriber, "--keep", "5", "--show", "-v", *SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
        session = load(str(tiny_transcriber), dtype="float32")
        session.encode(talk)
        path = socket_path(model.preset, model.identity)
        with running(session, path=path):
            here = run(capfd, talk, *asked)
            there = run(capfd, talk, *asked, "--server", "local")
    assert here == there
    assert here[0] == 0
    assert "language: en" in here[2]


def test_mistakes_are_those_of_one_process(served, recording, capfd, tmp_path):
    text = tmp_path / "text.wav"
    text.write_text("these are words, not sound")
    (tmp_path / "empty.wav").touch()
    for audio, *told in (
        (recording, "--track", "7"),
        (recording, "--set", "heat=2"),
        (recording, "--rate", "7"),
        (text,),
        (tmp_path,),
        (tmp_path / "empty.wav",),
        (tmp_path / "missing.wav",),
    ):
        here = run(capfd, audio, "Why so?", *told)
        assert here == run(capfd, audio, "Why so?", *told, "--server", "local")
        assert here[0] in (USAGE, BAD_AUDIO)


def test_what_a_server_cannot_do_for_others(served, recording, capfd):
    for told in (["--no-cache"], ["--model", "nano"], ["--dtype", "bfloat16"]):
        code, _, error = run(capfd, recording, "Why so?", *told, "--server", "local")
        assert code == (SERVER if "no server for this model" in error else USAGE)
        assert "leave --server out" in error or "no server for this model" in error


def test_questions_that_no_server_takes_are_told_before_the_first_answer(served, recording, capfd):
    code, out, error = run(capfd, recording, "Why so?", "a" * 20_001, "--server", "local")
    assert (code, out) == (USAGE, "")
    assert "20,001 letters, 20,000 are taken by --server local" in error


def test_a_busy_server_is_asked_again(tiny_model_folder, recording, capfd, tmp_path):
    model = options.ModelOptions(model=str(tiny_model_folder), dtype="float32")
    session, arguments = load(str(tiny_model_folder), dtype="float32"), ["-m", tiny_model_folder]
    wanted = run(capfd, recording, "Why so?", *arguments, *SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        path = socket_path(model.preset, model.identity)
        with running(session, Limits(queue=1), path=path) as server, ThreadPoolExecutor(3) as pool:
            body = chat(server.model, Path(recording).read_bytes())

            def occupy():
                with session.model.lock:
                    others = [pool.submit(server.complete, body)]
                    server.wait_for(running=1)
                    others.append(pool.submit(server.complete, body))
                    server.wait_until(lambda: any(" 429 " in line for line in server.lines))
                return [each.result()[0] for each in others]

            occupied = pool.submit(occupy)
            server.wait_for(running=1, waiting=1)
            assert (
                run(capfd, recording, "Why so?", *arguments, *SHORT, "--server", "local") == wanted
            )
            assert occupied.result() == [200, 200]


@pytest.mark.parametrize("patient", [True, False])
def test_a_server_that_stays_busy(served, recording, capfd, monkeypatch, patient):
    """Told after the last try, or at once where it does not say when to come again."""
    waited = []
    monkeypatch.setattr("speechprune_cli.serving.local.sleep", waited.append)

    def refuse(*_):
        raise Refusal(429, "the server is busy", retry_after=7 if patient else None)

    monkeypatch.setattr(served.serving.service.line, "join", refuse)
    code, out, error = run(capfd, recording, "Why so?", "--server", "local")
    assert (code, out, error) == (SERVER, "", "error: the server is busy\n")
    assert waited == ([7] * 4 if patient else [])


def test_a_server_that_is_stopped_says_so(tiny_model_folder, recording, capfd, tmp_path):
    model = options.ModelOptions(model=str(tiny_model_folder), dtype="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        path = socket_path(model.preset, model.identity)
        arguments = (recording, "Why so?", "-m", tiny_model_folder, "--server", "local")
        with running(load(str(tiny_model_folder)), path=path) as server:
            server.serving.service.line.stopping = True
            code, _, error = run(capfd, *arguments)
            assert (code, error) == (SERVER, "error: the server is stopping\n")
            stop(server)
        code, _, error = run(capfd, *arguments)
        assert code == SERVER
        assert f"start speechprune serve --model {tiny_model_folder}" in error


def test_the_socket_is_the_users_alone_and_a_stale_one_is_replaced(tmp_path):
    path = tmp_path / "run" / "a.sock"
    with own_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with pytest.raises(UsageError, match="another server"), own_socket(path):
            pass
        assert path.exists()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(os.fspath(path))  # and is closed without being removed
    with own_socket(path), socket.socket(socket.AF_UNIX) as asking:
        asking.connect(os.fspath(path))


def test_a_path_that_is_too_long_for_a_socket(tmp_path):
    path = tmp_path / ("a" * 120) / "a.sock"
    with pytest.raises(SpeechPruneError, match="too long"), own_socket(path):
        pass


@pytest.fixture
def fails(capfd, monkeypatch):
    """Exit code and the one line on stderr of a `serve` that does not start."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)

    def run(*arguments):
        code = main(["serve", *map(str, arguments)])
        captured = capfd.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        return code, line

    return run


def test_beyond_this_machine_a_key_is_needed(fails, tmp_path, monkeypatch):
    code, line = fails("--host", "0.0.0.0")  # noqa: S104
    assert code == USAGE
    assert KEY_VARIABLE in line
    assert "--key-file" in line
    empty = tmp_path / "key"
    empty.write_text("\nsecond line\n")
    assert "is empty" in fails("--key-file", empty)[1]
    assert "cannot be read" in fails("--key-file", tmp_path)[1]
    monkeypatch.setenv(KEY_VARIABLE, "")
    assert "is empty" in fails("--host", "192.168.0.1")[1]


def test_a_key_has_no_blanks_round_it_and_any_loopback_address_may_be_called(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert "127.0.0.2" in ServingOptions(host="127.0.0.2").hosts
    monkeypatch.setenv(KEY_VARIABLE, " secret\r\n")
    assert ServingOptions().key == "secret"


def test_a_reader_that_fails_is_told_of_by_exit_code_6():
    refusal = refusal_of(ServerError("gone"))
    assert refusal.status == 502
    error = error_of(refusal.status, refusal.body["error"])
    assert (str(error), error.exit_code) == ("gone", 6)


def test_addresses_that_cannot_be_listened_at(fails):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, line = fails("--port", taken.getsockname()[1])
    assert code == USAGE
    assert "--port takes another" in line
    assert fails("--port", "99999")[0] == USAGE
    assert (
        "cannot listen" in fails("--host", "127.0.0.1.example.invalid", "--key-file", __file__)[1]
    )


def test_settings_are_refused_before_the_model_is_loaded(fails):
    assert fails("--keep", "0%")[0] == USAGE
    assert fails("--model", "gpt")[0] == USAGE


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_the_extra_it_is_named(fails, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("speechprune_cli.extras.find_spec", lambda name: name != package or None)
    code, line = fails()
    assert code == USAGE
    assert "pip install 'speechprune[serve]'" in line


def test_the_least_recently_asked_about_is_forgotten(tiny_model_folder, recording):
    session = load(str(tiny_model_folder), cache=False)
    audio = make_audio(4)
    heard = Heard(audio, session.encode(audio))
    remembered = Remembered(2 * heard.bytes)
    for key in "abac":
        remembered.put(key, heard)
        assert remembered.get(key).tokens.from_cache
        assert not len(remembered.get(key).audio.samples)
    assert list(remembered.held) == ["a", "c"]
    assert remembered.bytes == 2 * heard.bytes
    nothing = Remembered(heard.bytes - 1)
    assert nothing.put("a", heard) is heard
    assert nothing.get("a") is None


@pytest.fixture
def nano(tmp_path):
    """A server as users start it: its process, and its address."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SPEECHPRUNE_MODEL": "nano"}
    arguments = [*COMMAND, "serve", "--port", "0", "--json", "--batch-size", "4"]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    process.environment = environment
    yield process, json.loads(process.stdout.readline())["url"]
    process.kill()
    process.communicate()


def readme(language, url):
    """A block of the README of `serving/`, for the server at that address."""
    text = (PACKAGE / "serving" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"```{language}\n(.+?)```", text, re.S)
    assert "http://127.0.0.1:8000/v1" in block
    return block.replace("http://127.0.0.1:8000/v1", url)


@pytest.mark.slow
def test_the_readme_is_right(nano, tmp_path, monkeypatch, capfd):
    """In Python and in a shell."""
    _, url = nano
    monkeypatch.chdir(tmp_path)
    Path("talk.ogg").write_bytes(Path(EXAMPLE).read_bytes())
    exec(compile(readme("python", url), "README.md", "exec"), {})  # noqa: S102
    assert capfd.readouterr().out == f"{ANSWER.lower()} 410\n"
    command = ["/bin/bash", "-c", readme("bash", url)]
    done = subprocess.run(command, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["message"]["content"].lower() == ANSWER.lower()


@pytest.mark.slow
def test_nano_answers_for_openais_client_and_ask(nano, tmp_path):
    """As long as no signal comes; then what is under way is finished."""
    process, url = nano
    data = b64encode(Path(EXAMPLE).read_bytes()).decode()
    audio = {"type": "input_audio", "input_audio": {"data": data, "format": "ogg"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": QUESTION}, audio]}]
    client = openai.OpenAI(base_url=url, api_key="none")
    answer = client.chat.completions.create(model="nano", messages=messages)
    assert answer.choices[0].message.content.lower() == ANSWER.lower()
    assert answer.usage.prompt_tokens_details.audio_tokens == 150
    ask = [*COMMAND, "ask", EXAMPLE, QUESTION, "--json"]
    here, there = (
        subprocess.run([*ask, *more], capture_output=True, text=True, env=process.environment)
        for more in ([], ["--server", "local"])
    )
    assert (here.stderr, there.stderr) == ("", "")
    assert unmeasured(here.stdout) == unmeasured(there.stdout)
    arguments = [*ask[3:], "--server", "local"]
    program = (
        f"import sys; from speechprune_cli.main import main; main({arguments});"
        "print(sorted({'torch', 'transformers', 'numpy', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=process.environment
    )
    assert done.stdout.splitlines()[-1] == "[]"
    stream = client.chat.completions.create(
        model="nano", messages=messages, stream=True, max_tokens=200
    )
    next(stream)
    process.send_signal(signal.SIGTERM)
    assert list(stream)[-1].choices[0].finish_reason == "stop"
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert not list((tmp_path / "speechprune").glob("*.sock"))


@pytest.mark.slow
def test_under_load_nothing_is_lost_and_memory_is_flat(monkeypatch):
    """The README's table, from fewer requests; the script fails where two answers differ."""
    monkeypatch.setenv("SPEECHPRUNE_MODEL", "nano")
    script = Path(__file__).parent / "benchmarks" / "load.py"
    done = subprocess.run(
        [sys.executable, script, "--requests", "40"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[-2:]]
    assert [row[0] for row in rows] == ["unpruned", "pruned"]
    for _, *cells in rows:
        lost, _, halfway, after = map(float, cells[-4:])
        assert lost == 0
        assert after < 1.25 * halfway
