"""A real vLLM reads prompts: the same answers as in this process, or a refusal.

Skipped, with the reason, where vLLM cannot be installed (`vllm_server.py`).
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile
import vllm_server
from asking import CHOICES, prompt_of, said
from bench_data import answers, read_lines, write_benchmark
from conftest import make_audio
from running_server import chat, running
from spoken import imagining  # noqa: F401 - a fixture
from tiny_models import QUESTION, make_tiny_model, make_tiny_transcriber

from speechprune_cli.bench.run import Observer, evaluate, resume
from speechprune_cli.config import PACKAGE
from speechprune_cli.errors import ServerError, UsageError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main
from speechprune_cli.pipeline import Session, load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny Qwen2-Audio with a Qwen2 decoder."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", "qwen2", **vllm_server.HEADS)


@pytest.fixture(scope="module")
def server(vllm, folder, tmp_path_factory):
    """That serves it."""
    log = tmp_path_factory.mktemp("vllm") / "log"
    with vllm_server.serving(folder, *vllm_server.FLAGS, log=log) as found:
        yield found


@pytest.fixture(scope="module")
def whole(folder) -> Session:
    """The model in this process."""
    return load(str(folder), dtype="float32", cache=False)


@pytest.fixture(scope="module")
def served(server, folder) -> Session:
    """The model whose decoder is the server's."""
    return load(str(folder), dtype="float32", cache=False, server=server.url)


@pytest.mark.parametrize(("method", "keep"), [("cue", "100%"), ("cue", "10%"), ("random", "3")])
def test_tokens_are_those_of_the_model(whole, served, method, keep):
    prompts = [prompt_of(each, 70, method, keep) for each in (whole, served)]
    assert said(served, prompts[1], 24)[:3] == said(whole, prompts[0], 24)[:3]


def test_an_answer_is_shown_piece_by_piece(served):
    pieces: list[str] = []
    answer = served.respond(prompt_of(served, 70), max_new_tokens=24, on_text=pieces.append)
    assert len(pieces) > 3
    assert "".join(pieces).strip() == answer.text


def test_options_are_as_likely_as_in_the_model(whole, served):
    found = []
    for each in (whole, served):
        prompts = [prompt_of(each, 40, keep=keep, choices=CHOICES) for keep in ("5", "60", "100%")]
        found.append(each.respond_batch(prompts, choices=[CHOICES, CHOICES[:2], CHOICES]))
    for ours, theirs in zip(*found, strict=True):
        assert theirs.text == ours.text
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-4)
        assert list(theirs.probabilities) == list(ours.probabilities)


def test_many_are_asked_at_once(whole, served):
    prompts = [[prompt_of(each, 10 + at, keep="7") for at in range(20)] for each in (whole, served)]
    ours, theirs = (
        [answer.text for answer in each.respond_batch(some, max_new_tokens=8)]
        for each, some in zip((whole, served), prompts, strict=True)
    )
    assert theirs == ours


def test_a_prompt_that_is_too_long_is_refused_beforehand(served):
    prompt = prompt_of(served, 180, keep="100%")
    with pytest.raises(UsageError, match=r"has 4,\d+ tokens, .* reads 4,096 at most .*keep less"):
        served.respond(prompt)


def test_other_weights_are_refused(server, tmp_path):
    other = make_tiny_model(tmp_path / "other", "qwen2", **vllm_server.HEADS, initializer_range=0.4)
    with pytest.raises(ServerError, match="other weights") as refusal:
        load(str(other), dtype="float32", server=server.url)
    assert "\n" not in str(refusal.value)


def test_another_chat_template_is_refused(server, folder, tmp_path):
    from transformers import Qwen2AudioProcessor

    other = shutil.copytree(folder, tmp_path / "other")
    template = Qwen2AudioProcessor.from_pretrained(folder).chat_template
    changed = template.replace("You are a helpful", "You are a tired")
    assert changed != template
    (other / "chat_template.jinja").write_text(changed, encoding="utf-8")
    with pytest.raises(ServerError, match="another chat template"):
        load(str(other), dtype="float32", server=server.url)


def test_a_server_without_the_flag_is_told(reader_server, tiny_voxtral_folder):
    with pytest.raises(ServerError, match="start it with --enable-prompt-embeds"):
        load(str(tiny_voxtral_folder), dtype="float32", server=reader_server.url)


@pytest.mark.usefixtures("vllm")
def test_a_decoder_that_vllm_cannot_serve_is_refused(tmp_path, capsys):
    nano = PACKAGE / "nano"
    with vllm_server.serving(nano, *vllm_server.FLAGS, log=tmp_path / "log") as found:
        meeting = str(PACKAGE / "examples" / "meeting.ogg")
        assert main(["ask", meeting, QUESTION, "-m", "nano", "--server", found.url]) == 6
    out, err = capsys.readouterr()
    assert out == ""
    assert "cannot serve this decoder" in err.splitlines()[-1]


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory) -> Path:
    """A preset whose reader vLLM can serve."""
    return make_tiny_transcriber(tmp_path_factory.mktemp("transcript"), **vllm_server.HEADS)


@pytest.fixture(scope="module")
def reader_server(vllm, transcriber, tmp_path_factory):
    """That serves it, started without any flag."""
    log = tmp_path_factory.mktemp("vllm") / "log"
    with vllm_server.serving(transcriber.parent / "reader", log=log) as found:
        yield found


@pytest.mark.usefixtures("imagining")
def test_a_transcript_is_read_by_its_token_ids(reader_server, transcriber):
    whole = load(str(transcriber), dtype="float32", cache=False)
    served = load(str(transcriber), dtype="float32", cache=False, server=reader_server.url)
    for keep in ("10%", "100%"):
        prompts = [prompt_of(each, 60, keep=keep) for each in (whole, served)]
        assert said(served, prompts[1], 24)[:3] == said(whole, prompts[0], 24)[:3]
    ours, theirs = (
        each.respond(prompt_of(each, 60, choices=CHOICES), choices=CHOICES)
        for each in (whole, served)
    )
    assert theirs.text == ours.text
    assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-4)


@pytest.mark.usefixtures("imagining")
def test_any_other_server_is_sent_text(reader_server, transcriber, monkeypatch):
    """vLLM as if it were not known to be one."""
    monkeypatch.setattr("speechprune_cli.remote.server.OWNERS", {})
    whole = load(str(transcriber), dtype="float32", cache=False)
    served = load(str(transcriber), dtype="float32", cache=False, server=reader_server.url)
    assert any("plain text" in decision for decision in served.decisions)
    ours, theirs = (each.respond(prompt_of(each, 60, keep="100%")) for each in (whole, served))
    theirs_said, ours_said = (each.text.partition("\ufffd")[0] for each in (theirs, ours))
    assert theirs_said == ours_said != ""  # bytes that are no letters are told otherwise, or late
    assert theirs.new_tokens - ours.new_tokens in (0, 1)  # the end token may count
    prompt = prompt_of(served, 60, choices=CHOICES)
    assert "A. on Friday\nB. in the red house" in prompt.asked
    answer = served.respond(prompt, choices=CHOICES)
    assert answer.probabilities is None or answer.text in CHOICES


def test_serve_stands_in_front_of_it(whole, served, tmp_path):
    """Requests side by side, as many as vLLM takes: what this process answers, each its own."""
    soundfile.write(tmp_path / "a.wav", make_audio(40).samples, SAMPLE_RATE, subtype="FLOAT")
    data = (tmp_path / "a.wav").read_bytes()
    keeps = ["1%", "3%", "10%", "30%", "100%"]

    def asked(server, keep):
        told = chat(server.model, data, max_tokens=8, pruning={"method": "uniform", "keep": keep})
        status, found = server.complete(told)
        return status, found["choices"][0]["message"]["content"], found["usage"]

    found = []
    for session in (whole, served):
        threads = 8 if session is served else 1
        with running(session, threads=threads) as server, ThreadPoolExecutor(threads) as pool:
            found.append(list(pool.map(lambda keep, to=server: asked(to, keep), keeps)))
    assert found[1] == found[0]
    assert {status for status, *_ in found[1]} == {200}


class Killing(Observer):
    """Ends the server after some answers."""

    def __init__(self, server, after: int) -> None:
        self.server, self.left = server, after

    def on_line(self, line) -> None:
        self.left -= 1
        if not self.left:
            self.server.kill()


@pytest.mark.parametrize("scoring", ["likelihood", "letter"])
def test_a_run_is_the_same_as_in_this_process(server, folder, tmp_path, scoring):
    found = []
    data = write_benchmark(tmp_path)
    for url in (None, server.url):
        done = evaluate("jsonl", **plan(folder, data), scoring=scoring, server=url)
        assert done.errors == 0
        found.append(answers(read_lines(done.folder)))
        shutil.rmtree(done.folder)
    assert untied(found[1]) == untied(found[0])


def test_a_server_that_dies_costs_no_answer(server, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("speechprune_cli.remote.http.PAUSES", (0.1, 0.2))
    data = write_benchmark(tmp_path)
    begun = plan(folder, data)
    with pytest.raises(ServerError, match="cannot be reached"):
        evaluate("jsonl", **begun, server=server.url, observer=Killing(server, 5))
    kept = answers(read_lines(begun["output"]))
    assert len(kept) >= 5
    assert all(line["status"] == "ok" for line in kept.values())
    server.start()
    done = resume(begun["output"])
    resumed = answers(read_lines(done.folder))
    assert resumed | kept == resumed
    shutil.rmtree(done.folder)
    own = evaluate("jsonl", **begun)
    assert untied(resumed) == untied(answers(read_lines(own.folder)))


def plan(folder: Path, data: Path) -> dict:
    """Of a small run."""
    amounts = {"methods": ["cue", "random"], "keep": ["20%"], "max_new_tokens": 4}
    place = {"model": str(folder), "dtype": "float32", "output": data.parent / "run"}
    return {"data": data, **amounts, **place}


def untied(lines: dict) -> dict:
    """Answers that hang on no tie, and their options' probabilities to three places."""
    rounded = {}
    for key, line in lines.items():
        for given in line["answers"]:
            given["probabilities"] = [round(each, 3) for each in given["probabilities"] or ()]
        rounded[key] = line
    return rounded
