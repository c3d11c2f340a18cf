"""Prompts that a server reads: what goes there, what comes back, and all that may go wrong.

The server is a real one around a real model (`model_server.py`); a real vLLM is in `test_vllm.py`.
"""

from __future__ import annotations

import dataclasses
import math
import re
import threading
from http.client import HTTPConnection

import model_server
import pytest
from bench_data import answers, read_lines, write_benchmark
from conftest import make_audio
from model_server import Fault, ModelServer
from tiny_models import QUESTION, make_tiny_model

from speechprune_cli import remote
from speechprune_cli.backends import load_backend
from speechprune_cli.bench.run import Observer, evaluate, resume
from speechprune_cli.config import resolve_model
from speechprune_cli.errors import ServerError, UsageError
from speechprune_cli.main import main
from speechprune_cli.pipeline import Session, load
from speechprune_cli.remote.address import Address, key
from speechprune_cli.remote.letters import letter_shares
from speechprune_cli.remote.probe import Right, alike_text
from speechprune_cli.remote.reply import Piece
from speechprune_cli.remote.server import check_version

CHOICES = ["on Friday", "in the red house", "nie, in Köln"]
DOWN = Fault(drops=True)
SECONDS = 12


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """No test waits as long as people would."""
    monkeypatch.setattr("speechprune_cli.remote.http.PAUSES", (0.0, 0.0))


FOLDERS = {
    "audio_embeds": "tiny_qwen2_folder",
    "prompt_embeds": "tiny_music_flamingo_folder",
    "token ids": "tiny_transcriber",
}
"""A model for each way in which prompts go to vLLM."""
RARELY = pytest.mark.slow


class Made(dict):
    """What is made when it is first wanted."""

    def __init__(self, make):
        self.make = make

    def __missing__(self, name):
        self[name] = self.make(name)
        return self[name]


@pytest.fixture(scope="module")
def folders(request, imagining):
    return Made(lambda name: request.getfixturevalue(FOLDERS[name]))


@pytest.fixture(scope="module")
def wholes(folders):
    """The models in this process."""
    return Made(lambda name: load(str(folders[name]), cache=False))


@pytest.fixture(scope="module")
def bares(folders):
    """The models without their decoders."""
    return Made(lambda name: load_backend(resolve_model(str(folders[name])), decoder=False))


@pytest.fixture
def whole(wholes):
    """The one whose audio goes as embeddings."""
    return wholes["audio_embeds"]


@pytest.fixture
def server(whole):
    """That serves it."""
    found = ModelServer(whole.model)
    yield found
    found.close()


@pytest.fixture
def joined(bares, wholes):
    """What puts a session together whose prompts a server reads, as `load` does."""

    def make(name, url):
        return Session(
            bares[name], None, remote.connect(url, bares[name], lambda: wholes[name].model)
        )

    return make


@pytest.fixture
def connect(joined, server):
    """The one whose audio goes as embeddings, to its server."""
    return lambda: joined("audio_embeds", server.url)


@pytest.fixture
def served(connect, server):
    """The same, with nothing asked yet."""
    found = connect()
    server.requests.clear()
    return found


@pytest.fixture
def other(wholes, tmp_path):
    """A model of the same shape with other weights."""
    folder = make_tiny_model(tmp_path / "other", "qwen2", initializer_range=0.4)
    return load(str(folder), cache=False)


ENCODED = {}


def prompt_of(session, keep="20%", **told):
    if (model := session.model) not in ENCODED:
        ENCODED[model] = session.encode(make_audio(SECONDS).samples, sample_rate=16_000)
    tokens = ENCODED[model]
    selection = session.prune(tokens, QUESTION, method="cue", keep=keep)
    return session.build_prompt(tokens, selection, QUESTION, **told)


def said(session, **told):
    """Answer and pieces, times and memory aside."""
    pieces = []
    answer = session.respond(prompt_of(session, **told), max_new_tokens=9, on_text=pieces.append)
    return answer.text, answer.new_tokens, answer.finished, pieces


@pytest.fixture(params=["audio_embeds", pytest.param("prompt_embeds", marks=RARELY), "token ids"])
def both(request, joined, wholes):
    """A model here, and the same with its decoder at a server."""
    whole = wholes[request.param]
    server = ModelServer(whole.model)
    yield whole, joined(request.param, server.url), server
    server.close()


def test_answers_are_those_of_the_model(both):
    whole, served, server = both
    for keep in ("100%", "20%", "1"):
        assert said(served, keep=keep) == said(whole, keep=keep)
    assert all(request["temperature"] == 0 for request in server.requests)
    assert all(request["repetition_penalty"] == 1 for request in server.requests)


@pytest.mark.slow
def test_options_are_as_likely_as_in_the_model(both):
    found = []
    for session in both[:2]:
        prompts = [prompt_of(session, keep=keep, choices=CHOICES) for keep in ("3", "50%")]
        found.append(session.respond_batch(prompts, choices=[CHOICES, CHOICES[1:]]))
    for ours, theirs in zip(*found, strict=True):
        assert theirs.text == ours.text
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-5)


def test_only_what_was_pruned_is_sent(served, server):
    prompt = prompt_of(served, keep="3")
    served.respond(prompt)
    (request,) = server.requests
    sent = request["messages"][0]["content"][0]["audio_embeds"]
    assert len(sent) < 3 * served.model.hidden_size * 4 * 4 / 3 + 3000, "no more than its rows"
    assert prompt.audio.data_ptr() != prompt.inputs_embeds.data_ptr()
    assert prompt.audio.untyped_storage().data_ptr() == prompt.inputs_embeds.data_ptr()


def test_the_decoder_is_not_loaded(whole, served):
    def held(session):
        return sum(each.numel() for each in session.model.model.parameters())

    decoder = whole.model.model.get_decoder()
    layers = sum(each.numel() for each in decoder.layers.parameters())
    head = whole.model.model.lm_head.weight.numel()
    assert held(served) == held(whole) - layers - head
    assert served.model.parameters == whole.model.parameters, "of the model, wherever it is"


def test_what_is_decided_is_said(served, server):
    told = "\n".join(served.decisions)
    assert f"prompts go to {server.url} (vLLM 0.32.0, served) as audio_embeds" in told
    assert "options are scored by the likelihood of their tokens" in told
    assert "the server answers 3 fixed prompts as" in told


def test_positions_with_gaps_are_refused(served):
    with pytest.raises(UsageError, match="--position original: a server counts"):
        prompt_of(served, position="original")


def test_averaged_words_are_refused(joined, wholes):
    server = ModelServer(wholes["token ids"].model)
    served = joined("token ids", server.url)
    prompt = dataclasses.replace(prompt_of(served), audio_ids=None)
    with pytest.raises(UsageError, match="averages tokens"):
        served.respond(prompt)
    server.close()


class TestPlainServers:
    """Servers that take text alone, and tell little."""

    @pytest.fixture
    def plain(self, wholes):
        server = ModelServer(wholes["token ids"].model, "Ollama")
        yield server
        server.close()

    def test_text_is_sent_and_read(self, joined, plain, wholes):
        served = joined("token ids", plain.url)
        text, count, _, pieces = said(served, keep="100%")
        assert text == "".join(pieces).strip() != ""
        assert count
        message = plain.requests[-1]["messages"][0]["content"]
        assert message.startswith("Transcript of a recording:\n\n")
        assert message.endswith(f"in as few words as possible.\n{QUESTION}")
        assert not {"repetition_penalty", "stop_token_ids"} & set(plain.requests[-1])
        assert plain.requests[-1]["presence_penalty"] == 0
        assert any("plain text" in line for line in served.decisions)

    @pytest.mark.parametrize("tells", [True, False])
    def test_options_go_by_letter(self, joined, plain, tells):
        plain.tells_likelihoods = tells
        served = joined("token ids", plain.url)
        assert any("by the letter" in line for line in served.decisions)
        prompt = prompt_of(served, choices=CHOICES)
        answer = served.respond(prompt, choices=CHOICES)
        asked = plain.requests[-1]["messages"][0]["content"]
        assert "A. on Friday\nB. in the red house" in asked
        assert "the letter of the right option" in asked
        if answer.probabilities is not None:
            assert tells
            assert sum(answer.probabilities.values()) == pytest.approx(1)
            assert answer.text in CHOICES

    def test_markup_is_not_sent_as_text(self, joined, plain, wholes):
        served = joined("token ids", plain.url)
        ends = wholes["token ids"].model.end_tokens
        token = served.model.chat.markup.id_to_token(min(ends))
        prompt = dataclasses.replace(prompt_of(served), asked=f"What is {token}?")
        plain.requests.clear()
        with pytest.raises(UsageError, match=re.escape(f"says {token}, which")):
            served.respond(prompt)
        assert not plain.requests

    @pytest.mark.parametrize("choices", [(), CHOICES])
    def test_a_prompt_that_is_cut_in_silence_is_refused(self, joined, plain, choices):
        served = joined("token ids", plain.url)
        prompt = prompt_of(served, keep="100%", choices=choices)
        plain.keeps = 40
        with pytest.raises(ServerError, match=r"read 40 tokens .*\(OLLAMA_CONTEXT_LENGTH\)"):
            served.respond(prompt, choices=choices, max_new_tokens=2)

    def test_more_options_than_letters(self, joined, plain):
        served = joined("token ids", plain.url)
        with pytest.raises(UsageError, match="27 options, but there are 26 letters"):
            served.respond(prompt_of(served), choices=[f"number {each}" for each in range(27)])

    def test_token_ids_go_to_llama_cpp(self, joined, plain, wholes):
        plain.engine = "llama.cpp"
        served = joined("token ids", plain.url)
        assert said(served)[:3] == said(wholes["token ids"])[:3]
        assert isinstance(plain.requests[-1]["prompt"], list)

    def test_a_model_that_hears_needs_vllm(self, joined, plain):
        with pytest.raises(ServerError, match="takes no embeddings"):
            joined("audio_embeds", plain.url)


def test_letters_are_told_apart_by_their_first_token():
    top = {"B": -1.0, " B": -0.5, "A": -2.0, "the": -0.9}
    shares = letter_shares(top, 3)
    assert shares.index(max(shares)) == 1
    assert shares[2] == shares[0], "one that is not told is as unlikely as the last that is"
    assert letter_shares({"the": -0.1}, 3) == []
    assert letter_shares({}, 3) == []
    assert letter_shares({"A": -0.5, "the": -0.1}, 3) == [], "what follows `the` decides"
    assert letter_shares({"a": -0.1, "B": -0.5}, 3) == [], "`a` is a word"
    assert letter_shares({"B": -800.0, "A": -900.0}, 2) == pytest.approx([0, 1])


class TestRightTexts:
    """Answers of servers that tell no token ids: 1 "on", 2 "Friday", 3 " Monday", 9 the end."""

    RIGHT = Right(
        [1, 2, 9],
        ["on", "on Friday", "on Friday"],
        [{"1": 0.0}, {"2": 0.0, "3": 0.1, "9": 0.2, "7": 0.1}, {"9": 0.0, "4": 2.0}],
        [
            {"1": "on"},
            {"2": "on Friday", "3": "on Monday", "9": "on", "7": "on"},  # 7 is markup
            {"9": "on Friday", "4": "on Friday, then"},
        ],
    )

    @pytest.mark.parametrize(
        ("text", "ended", "right"),
        [
            ("on Friday", True, True),
            ("on Friday", False, False),
            ("on Friday, then", False, False),
            ("on Monday evening", False, True),
            ("onMonday", False, False),
            ("on", True, True),
            ("on Sunday", False, False),
            ("", True, False),
        ],
    )
    def test_it_goes_on_and_ends_as_the_right_one(self, text, ended, right):
        assert alike_text(self.RIGHT, text, ended, {9}) is right


class TestWrongServers:
    """A server that would answer as another model is refused before the first answer."""

    def test_other_weights(self, connect, server, other):
        server.lm = other.model
        with pytest.raises(ServerError, match="other weights") as refusal:
            connect()
        assert "\n" not in str(refusal.value)
        assert refusal.value.exit_code == 6

    def test_another_chat_template(self, connect, server, whole, monkeypatch):
        ids = whole.model.prompt_ids
        monkeypatch.setattr(
            whole.model,
            "prompt_ids",
            lambda *told: dataclasses.replace(ids(*told), after=ids(*told).after[1:]),
        )
        with pytest.raises(ServerError, match="another chat template"):
            connect()

    def test_another_width(self, connect, server, tmp_path):
        folder = make_tiny_model(tmp_path / "wide", "qwen2", hidden_size=128)
        server.lm = load(str(folder), cache=False).model
        with pytest.raises(ServerError, match="serves another model"):
            connect()

    @pytest.mark.parametrize(
        "flag", ["--enable-mm-embeds", pytest.param("--enable-prompt-embeds", marks=RARELY)]
    )
    def test_a_missing_flag_is_named(self, joined, wholes, flag):
        kind = "audio_embeds" if "mm" in flag else "prompt_embeds"
        server = ModelServer(wholes[kind].model)
        server.flags = ()
        with pytest.raises(ServerError, match=f"start it with {flag}"):
            joined(kind, server.url)
        server.close()

    def test_one_that_comes_back_with_other_weights(self, served, server, other):
        server.lm, server.faults = other.model, [DOWN]
        for _ in range(2):
            with pytest.raises(ServerError, match="other weights"):
                served.respond(prompt_of(served))

    def test_one_that_comes_back_is_compared_again(self, whole, served, server):
        server.faults = [DOWN]
        assert said(served) == said(whole)
        assert len(server.requests) == 2 + 6, "one again, and three fixed prompts in two ways"

    def test_one_that_was_replaced_while_nobody_spoke(self, served, server, other, monkeypatch):
        served.respond(prompt_of(served), max_new_tokens=1)
        assert len(server.requests) == 1
        server.lm = other.model
        monkeypatch.setattr("speechprune_cli.remote.reader.SILENCE", 0.0)
        for _ in range(2):
            with pytest.raises(ServerError, match="other weights"):
                served.respond(prompt_of(served), max_new_tokens=1)

    def test_right_answers_are_computed_once(self, connect, monkeypatch):
        connect()
        monkeypatch.setattr("speechprune_cli.remote.probe.compute", None)
        connect()

    def test_too_little_memory_for_the_comparison_is_said(self, connect, monkeypatch, caplog):
        from speechprune_cli.errors import OutOfMemoryError

        def refuse(*_):
            raise OutOfMemoryError("reading the decoder needs 70 GB")

        monkeypatch.setattr("speechprune_cli.remote.probe.right_answers", refuse)
        connect()
        assert "not compared with" in caplog.text

    def test_quantising_what_is_not_loaded(self, folders, server):
        with pytest.raises(UsageError, match="--quantize nf4: with --server"):
            load(str(folders["audio_embeds"]), server=server.url, quantize="nf4")
        assert not server.headers

    def test_a_family_that_no_server_reads(self, tiny_gemma4_folder, server):
        with pytest.raises(UsageError, match="takes no --server"):
            load(str(tiny_gemma4_folder), server=server.url)


BUSY = Fault(429, {"error": {"message": "too many"}}, {"Retry-After": "0"})
BROKEN = Fault(500, {"error": {"message": "EngineCore encountered an issue"}})


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


@RARELY
def test_an_answer_ends_where_the_context_does(server, connect):
    prompt = prompt_of(connect(), keep="100%")
    server.context = prompt.audio_tokens + prompt.text_tokens + 2
    answer = connect().respond(prompt)
    assert (answer.new_tokens, answer.finished) in [(2, False), (1, True), (0, True)]


def test_no_more_than_asked_for_are_under_way(connect, server, monkeypatch):
    monkeypatch.setenv("SPEECHPRUNE_SERVER_REQUESTS", "3")
    served = connect()
    prompts = [prompt_of(served, keep=str(count)) for count in range(1, 13)]
    server.faults = [Fault(sleeps=0.02)] * len(prompts)
    served.respond_batch(prompts, max_new_tokens=2)
    assert server.busiest == 3


def test_the_key_is_sent_and_not_shown(connect, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not this")
    monkeypatch.setenv("SPEECHPRUNE_SERVER_KEY", "s3cret")
    served = connect()
    assert {each.get("Authorization") for each in server.headers} == {"Bearer s3cret"}
    server.faults = [Fault(401, "s3cret is wrong".replace("s3cret", "it"))]
    with pytest.raises(ServerError) as refusal:
        served.respond(prompt_of(served))
    assert "s3cret" not in f"{refusal.value} {served.decisions}"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:8000", "give an address such as"),
        ("ftp://here", "give an address such as"),
        ("http://", "give an address such as"),
        ("http://here:99999", "Port out of range"),
        ("http://me:secret@here", "leave the key out of the address"),
        ("http://me:secret@here:99999", "leave the key out of the address"),
        ("http://me:secret@[::1", "leave the key out of the address"),
        ("http://here?key=secret", "leave the key out of the address"),
        ("http://[::1:8000", "Invalid IPv6 URL"),
        ("http://foo..bar:8000", "label empty"),
        ("http://here/ü", "give an address such as"),
        ("http://he re", "give an address such as"),
        ("http://here/a b", "give an address such as"),
    ],
)
def test_an_address_that_is_none(url, told):
    with pytest.raises(UsageError, match=told) as refusal:
        Address.parse(url)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("secret", ["s3cret\r\nHost: evil", "s3crét", "s3 cret"])
def test_a_key_that_is_none_is_not_shown(connect, monkeypatch, secret):
    monkeypatch.setenv("SPEECHPRUNE_SERVER_KEY", secret)
    with pytest.raises(UsageError, match="SPEECHPRUNE_SERVER_KEY: a key has") as refusal:
        connect()
    assert "s3" not in str(refusal.value)


def test_whose_key_goes_where(monkeypatch):
    monkeypatch.delenv("SPEECHPRUNE_SERVER_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "theirs\r\n")
    near = ["http://localhost", "http://127.0.0.2:8000", "http://[::1]:8000", "https://far.org"]
    far = ["http://far.org", "http://192.168.0.7:8000"]
    assert {key(Address.parse(url)) for url in near} == {"theirs"}
    assert {key(Address.parse(url)) for url in far} == {None}
    monkeypatch.setenv("SPEECHPRUNE_SERVER_KEY", "ours")
    assert {key(Address.parse(url)) for url in (*near, *far)} == {"ours"}


def test_addresses():
    plain = Address.parse("http://here:8000/v1/")
    assert plain == Address.parse("http://here:8000")
    assert (plain.url, plain.port, plain.path, plain.model) == ("http://here:8000", 8000, "", None)
    far = Address.parse("https://far.org/llm/v1#a/b:7b")
    assert (far.port, far.path, far.model, far.secure) == (443, "/llm", "a/b:7b", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("REQUESTS", "0"), ("REQUESTS", "many"), ("TIMEOUT", "-1"), ("TIMEOUT", "inf")],
)
def test_settings_that_are_none(connect, monkeypatch, name, value):
    monkeypatch.setenv(f"SPEECHPRUNE_SERVER_{name}", value)
    with pytest.raises(UsageError, match=f"SPEECHPRUNE_SERVER_{name}={value}"):
        connect()


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


@pytest.mark.parametrize("told", ["4096", -1, 2.5, True, [4096]])
def test_a_context_that_is_none(server, connect, told):
    server.context = told
    with pytest.raises(ServerError, match="tells a context of"):
        connect()


def test_log_probabilities_as_servers_write_them():
    likely = [{"token": "a", "logprob": -1}, {"token": "b", "logprob": None}]
    chat = {"content": [{"token": "a", "logprob": -1, "top_logprobs": likely}]}
    more = {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{"a": -1, "b": -math.inf}]}
    bare = {"content": [{"token": "a", "logprob": -1.0}]}
    for told, tops in ((chat, {"a": -1}), (more, {"a": -1, "b": -math.inf}), (bare, {"a": -1})):
        assert Piece.read({"choices": [{"logprobs": told}]}).tops == (tops,)


def test_speechprune_serve_is_told_from_servers_that_read(server, connect, monkeypatch):
    monkeypatch.setitem(model_server.OWNERS, server.engine, "speechprune")
    with pytest.raises(ServerError, match="takes recordings, not prompts: ask it with --server"):
        connect()


def test_versions_of_vllm():
    assert check_version("url", "0.32.1") == ()
    assert "newer than what was tried" in check_version("url", "1.0.0rc1")[0]
    for old in ("0.25.9", "None", "dev"):
        with pytest.raises(ServerError, match=r"0\.26 or newer is needed"):
            check_version("url", old)


def test_one_of_several_models_is_named(server, joined):
    server.names = ["other", "served"]
    with pytest.raises(ServerError, match="serves other, served: say which behind the address"):
        joined("audio_embeds", server.url)
    joined("audio_embeds", f"{server.url}#served")
    assert server.requests[-1]["model"] == "served"
    with pytest.raises(ServerError, match="serves other, served"):
        joined("audio_embeds", f"{server.url}#absent")


def test_what_is_no_such_server(server, joined):
    with pytest.raises(ServerError, match="it lists no models under /v1/models"):
        joined("audio_embeds", f"{server.url}/elsewhere")
    server.names = [None]
    with pytest.raises(ServerError, match="it lists no models under /v1/models"):
        joined("audio_embeds", server.url)
    server.close()
    with pytest.raises(ServerError, match="it cannot be reached: Connection refused"):
        joined("audio_embeds", server.url)


@RARELY
def test_threads_ask_side_by_side(whole, served):
    prompts = [prompt_of(served, keep=str(count)) for count in range(1, 9)]
    found: dict[int, str] = {}

    def ask(number):
        found[number] = served.respond(prompts[number], max_new_tokens=5).text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(prompts))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    wanted = [whole.respond(prompt, max_new_tokens=5).text for prompt in prompts]
    assert [found[number] for number in range(len(prompts))] == wanted


def test_ties_are_counted(served, server, whole):
    prompt = prompt_of(served)
    answer = served.respond(prompt)
    assert (answer.ties, answer.peak_memory_bytes) == (0, 0)
    served.reader.tie = float("inf")
    answer = served.respond(prompt, max_new_tokens=4)
    assert answer.ties >= answer.new_tokens > 0
    assert served.respond(prompt, choices=CHOICES).ties == 1


class TestCommands:
    """The same by the command line."""

    ASK = (QUESTION, "--max-new-tokens", "6", "--method", "cue", "--keep", "20%")

    def test_ask(self, server, folders, tmp_path, capsys):
        write_benchmark(tmp_path, "short")
        ask = ["ask", str(tmp_path / "short.wav"), *self.ASK, "-m", str(folders["audio_embeds"])]
        found = []
        for more in ([], ["--server", server.url]):
            assert main([*ask, *more]) == 0
            found.append(capsys.readouterr().out)
        assert found[0] == found[1] != ""
        server.close()
        assert main([*ask, "--server", server.url]) == 6
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)

    @pytest.mark.slow
    def test_eval(self, server, folders, tmp_path):
        data = write_benchmark(tmp_path, "short", "two", "öffen")
        told = {"methods": ["cue"], "keep": ["20%"], "max_new_tokens": 3, "data": data}
        found = []
        for url in (None, server.url):
            output = tmp_path / f"run {url is None}"
            done = evaluate(
                "jsonl", model=str(folders["audio_embeds"]), output=output, server=url, **told
            )
            assert done.errors == 0
            found.append(answers(read_lines(done.folder)))
        assert dict(map(rounded, found[1].items())) == dict(map(rounded, found[0].items()))
        with pytest.raises(UsageError, match="was begun without --server: leave it out"):
            resume(tmp_path / "run True", server=server.url)
        moved = ModelServer(server.lm)
        server.close()
        resume(tmp_path / "run False", server=moved.url)
        moved.close()

    @pytest.mark.slow
    def test_a_run_that_is_interrupted_waits_for_no_answer(self, server, folders, tmp_path):
        class Impatient(Observer):
            def on_line(self, line):
                server.faults = [Fault(sleeps=500)] * 1000
                raise KeyboardInterrupt

        data = write_benchmark(tmp_path)
        told = {"model": str(folders["audio_embeds"]), "output": tmp_path / "run", "data": data}
        amounts = {"methods": ["cue"], "keep": ["20%"]}
        with pytest.raises(KeyboardInterrupt):
            evaluate("jsonl", **told, **amounts, server=server.url, observer=Impatient())


def rounded(item):
    """Options' probabilities to four places."""
    key, line = item
    for given in line["answers"]:
        given["probabilities"] = [round(each, 4) for each in given["probabilities"] or ()]
    return key, line
