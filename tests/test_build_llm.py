"""Dialogues by a language model: an endpoint that does well, talks nonsense, stumbles, is gone."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from chat_server import Server, draft, well

pytest.importorskip("num2words", reason="building is an extra")

from speechprune_cli.builder.plan import Plan
from speechprune_cli.builder.topics import briefs
from speechprune_cli.builder.writers import _chat
from speechprune_cli.builder.writers.llm import Llm
from speechprune_cli.errors import ModelError, UsageError

PAUSE = 0.375
BRIEFS = briefs(Plan(samples=12, seconds=60))


def writer_at(server: Server, **settings) -> Llm:
    """A writer that asks that server."""
    return Llm(endpoint=server.url, model="tester", **settings)


@pytest.fixture
def serve(monkeypatch):
    """Start servers; no pauses between tries."""
    monkeypatch.setattr(_chat, "PAUSES", (0.0, 0.0))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("brief", BRIEFS, ids=lambda brief: brief.id)
def test_a_good_answer_becomes_a_script(serve, brief):
    server = serve(well)
    script = writer_at(server).write(brief, Random(0), set(), PAUSE)
    assert script.letter == brief.letter, "the key is balanced by the brief, not by the model"
    assert script.answer == "eleven"
    assert "eleven goats" in script.utterances[script.key].text
    assert len(script.speakers) == brief.speakers
    assert server.requests[0]["path"] == "/v1/chat/completions"
    assert server.requests[0]["model"] == "tester"
    assert server.drafts == 1
    assert len(server.requests) == 5, "and the question without the recording, in four orders"
    assert not any("Authorization" in headers for headers in server.headers)


def test_the_key_goes_to_the_endpoint_alone(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = serve(well)
    writer = writer_at(server)
    writer.write(BRIEFS[0], Random(0), set(), PAUSE)
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(writer)


def test_json_may_stand_in_a_fence(serve):
    def fenced(body):
        return f"Sure!\n```json\n{draft(body)}\n```" if "response_format" in body else "A"

    assert writer_at(serve(fenced)).write(BRIEFS[0], Random(0), set(), PAUSE).answer == "eleven"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"wrong": ["nine", "nine", "four"]}, "the four options are not different"),
        ({"wrong": ["nine", "Eleven", "four"]}, "the four options are not different"),
        ({"wrong": ["nine"]}, "wrong"),
        ({"question": "Are there eleven?"}, "the question tells the answer"),
        ({"question": ""}, "question"),
        ({"question": 7}, "question: input should be a valid string"),
        ({"mood": "good"}, "mood: extra inputs are not permitted"),
        ({"before": [], "after": []}, "speakers|too short"),
        ({"key": {"speaker": 9, "text": "Eleven."}}, "key.speaker"),
    ],
)
def test_what_cannot_be_used_is_said_back_and_asked_for_again(serve, changes, complaint):
    def answer(body):
        if "response_format" not in body:
            return "A"
        return draft(body, **changes) if len(body["messages"]) == 2 else draft(body)

    server = serve(answer)
    script = writer_at(server).write(BRIEFS[0], Random(0), set(), PAUSE)
    assert script.answer == "eleven"
    assert server.drafts == 2
    again = next(r for r in server.requests if len(r["messages"]) == 4)["messages"][3]["content"]
    assert again.startswith("That cannot be used: ")
    assert re.search(complaint, again)


def test_nonsense_ends_after_a_bounded_number_of_answers(serve):
    server = serve(lambda body: "I am a teapot {")
    with pytest.raises(ModelError, match="none of 3 answers of tester is of use; last: it is not"):
        writer_at(server, attempts=3).write(BRIEFS[0], Random(0), set(), PAUSE)
    assert server.drafts == 3


def test_a_question_that_needs_no_recording_is_thrown_out(serve):
    def knows(body):
        if "response_format" in body:
            return draft(body)
        listed = body["messages"][0]["content"]
        return re.search(r"([A-D])\. eleven", listed)[1]

    server = serve(knows)
    with pytest.raises(ModelError, match="can be answered without the recording"):
        writer_at(server, attempts=2).write(BRIEFS[0], Random(0), set(), PAUSE)


def test_a_question_is_not_asked_twice(serve):
    taken = {"How many goats does the aunt keep?"}
    with pytest.raises(ModelError, match="asked before"):
        writer_at(serve(well), attempts=1).write(BRIEFS[0], Random(0), taken, PAUSE)


def test_a_stumble_is_forgiven(serve):
    failing = iter([503, 429])
    server = serve(lambda body: next(failing, None) or well(body))
    assert writer_at(server).write(BRIEFS[0], Random(0), set(), PAUSE).answer == "eleven"


@pytest.mark.parametrize(
    ("status", "tries", "complaint"),
    [
        (500, 3, "HTTP 500 the machine is on fire"),
        (401, 1, "is OPENAI_API_KEY right"),
        (404, 1, "404"),
    ],
)
def test_an_endpoint_that_refuses_is_one_line(serve, status, tries, complaint):
    server = serve(lambda body: status)
    with pytest.raises(ModelError, match=complaint):
        writer_at(server).write(BRIEFS[0], Random(0), set(), PAUSE)
    assert len(server.requests) == tries


def test_an_endpoint_that_is_down_is_one_line(serve):
    server = serve(well)
    server.close()
    with pytest.raises(ModelError, match=r"cannot be reached: .*refused"):
        writer_at(server).write(BRIEFS[0], Random(0), set(), PAUSE)


def test_something_else_than_an_endpoint_is_one_line(serve):
    server = serve(lambda body: 200)
    with pytest.raises(ModelError, match="no chat endpoint: it says 'the machine"):
        writer_at(server).write(BRIEFS[0], Random(0), set(), PAUSE)


@pytest.mark.parametrize("settings", [{}, {"endpoint": "ftp://x", "model": "m"}])
def test_missing_settings_are_told_before_anybody_is_asked(settings):
    with pytest.raises(UsageError, match=r"--set (model|endpoint)"):
        Llm(**settings).check()


def test_a_local_model_that_talks_nonsense_is_one_line(tmp_path, monkeypatch):
    from tiny_models import _save_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _save_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["processor_class"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=1, **small)
    )
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(_chat, "MOST_TOKENS", 24)
    with pytest.raises(ModelError, match=r"none of 2 answers of .* is of use"):
        Llm(model=str(tmp_path), attempts=2).write(BRIEFS[0], Random(0), set(), PAUSE)
    with pytest.raises(ModelError, match="no language model"):
        Llm(model=str(tmp_path / "gone")).write(BRIEFS[0], Random(0), set(), PAUSE)
