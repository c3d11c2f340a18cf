"""All that may go wrong on the way: tried again, or one line."""

from __future__ import annotations

import math
import re
from http.client import HTTPConnection

import pytest
from asking import CHOICES, prompt_of, said
from model_server import Fault

from speechprune_cli.errors import ServerError, UsageError
from speechprune_cli.remote.reply import Piece

BUSY = Fault(429, {"error": {"message": "too many"}}, {"Retry-After": "0"})

BROKEN = Fault(500, {"error": {"message": "EngineCore encountered an issue"}})

DOWN = Fault(drops=True)


@pytest.mark.parametrize(
    "faults",
    [[BUSY], [BROKEN, BUSY], [DOWN], [Fault(cuts_after=0)], [Fault(503, "loading")]],
    ids=["429", "500, 429", "gone", "cut at once", "503"],
)
def test_what_passes_is_tried_again(whole, served, server, faults):
    server.faults = list(faults)
    assert said(served) == said(whole)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([BUSY] * 3, "429 too many"),
        ([BROKEN] * 3, "500 EngineCore encountered an issue"),
        ([DOWN] * 3, "cannot be reached"),
        ([Fault(cuts_after=2)], "the connection was lost in the answer"),
        ([Fault(401, "who are you")], "wants a key: put it into SPEECHPRUNE_SERVER_KEY"),
        ([Fault(404, {})], "there is no /v1/chat/completions"),
        ([Fault(418, "a teapot")], "refuses: 418 a teapot"),
    ],
    ids=["429", "500", "gone", "cut", "401", "404", "other"],
)
def test_what_stays_is_one_line(served, server, faults, told):
    server.faults = list(faults)
    with pytest.raises((ServerError, UsageError), match=re.escape(told)) as refusal:
        served.respond(prompt_of(served), max_new_tokens=9, on_text=lambda _: None)
    assert server.url in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_answer_without_end_or_meaning(served, server):
    server.faults = [Fault(418, "[" * 9000)]
    with pytest.raises(UsageError, match="refuses: 418"):
        served.respond(prompt_of(served))


def test_an_answer_that_nobody_has_seen_is_asked_for_again(whole, served, server):
    server.faults = [Fault(cuts_after=2), Fault(cuts_after=5)]
    prompts = [[prompt_of(each)] for each in (served, whole)]
    (theirs,), (ours,) = (
        each.respond_batch(some, max_new_tokens=9)
        for each, some in zip((served, whole), prompts, strict=True)
    )
    assert (theirs.text, theirs.new_tokens) == (ours.text, ours.new_tokens)


def test_a_body_that_is_cut_short_is_asked_again(whole, served, server):
    prompt = prompt_of(served, choices=CHOICES)
    server.faults = [Fault(short=True)]
    answer, wanted = (each.respond(prompt, choices=CHOICES) for each in (served, whole))
    assert answer.text == wanted.text
    assert not server.faults


def test_what_a_server_refuses_is_its_fault(served, server):
    server.faults = [Fault(418, "a teapot")]
    with pytest.raises(UsageError) as refusal:
        served.respond(prompt_of(served))
    assert refusal.value.exit_code == 6


def test_a_reader_that_is_closed_asks_nothing_more(served, server, monkeypatch):
    connect = HTTPConnection.connect

    def late(connection):
        connect(connection)
        served.reader.close()

    monkeypatch.setattr(HTTPConnection, "connect", late)
    with pytest.raises(ServerError, match="given up"):
        served.respond(prompt_of(served))
    assert not server.requests


def test_a_slow_server_is_given_up(connect, server, monkeypatch):
    monkeypatch.setenv("SPEECHPRUNE_SERVER_TIMEOUT", "0.2")
    served = connect()
    server.faults = [Fault(sleeps=0.5)]
    with pytest.raises(ServerError, match=r"says nothing for 0.2 s \(see SPEECHPRUNE_SERVER_TIM"):
        served.respond(prompt_of(served))


def test_a_prompt_that_is_too_long_is_not_sent(server, connect):
    server.context = 150
    served = connect()
    server.requests.clear()
    with pytest.raises(UsageError, match=r"reads 150 at most .*keep less"):
        served.respond(prompt_of(served, keep="100%"))
    assert not server.requests


@pytest.mark.slow
def test_an_answer_ends_where_the_context_does(server, connect):
    prompt = prompt_of(connect(), keep="100%")
    server.context = prompt.audio_tokens + prompt.text_tokens + 2
    answer = connect().respond(prompt)
    assert (answer.new_tokens, answer.finished) in [(2, False), (1, True), (0, True)]


WRONG = [
    {"choices": {}},
    {"choices": [{"text": 3}]},
    {"choices": [{"token_ids": ["7"]}]},
    {"choices": [{"token_ids": [-1]}]},
    {"choices": [{"delta": {"content": ["a"]}}]},
    {"choices": [{"finish_reason": 0}]},
    {"choices": [], "usage": {"prompt_tokens": "12"}},
    {"choices": [{"prompt_token_ids": [2.5]}]},
    {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": math.nan}]}}]},
    {"choices": [{"logprobs": {"content": [{"token": 7, "logprob": -1.0}]}}]},
    {"choices": [{"logprobs": {"top_logprobs": [{"a": "0"}]}}]},
]


@pytest.mark.parametrize("told", WRONG, ids=str)
def test_an_answer_of_other_types_is_none(told):
    with pytest.raises(ServerError, match="the server's answer is no completion"):
        Piece.read(told)


def test_log_probabilities_as_servers_write_them():
    likely = [{"token": "a", "logprob": -1}, {"token": "b", "logprob": None}]
    chat = {"content": [{"token": "a", "logprob": -1, "top_logprobs": likely}]}
    more = {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{"a": -1, "b": -math.inf}]}
    bare = {"content": [{"token": "a", "logprob": -1.0}]}
    for told, tops in ((chat, {"a": -1}), (more, {"a": -1, "b": -math.inf}), (bare, {"a": -1})):
        assert Piece.read({"choices": [{"logprobs": told}]}).tops == (tops,)
