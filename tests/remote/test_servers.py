"""Who a server is, and that none answers as another model."""

from __future__ import annotations

import dataclasses

import model_server
import pytest
from asking import prompt_of, said
from model_server import Fault, ModelServer
from tiny_models import make_tiny_model

from speechprune_cli.errors import ServerError, UsageError
from speechprune_cli.pipeline import load
from speechprune_cli.remote.probe import Right, alike_text
from speechprune_cli.remote.server import check_version

DOWN = Fault(drops=True)


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
        "flag",
        ["--enable-mm-embeds", pytest.param("--enable-prompt-embeds", marks=pytest.mark.slow)],
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


@pytest.mark.parametrize("told", ["4096", -1, 2.5, True, [4096]])
def test_a_context_that_is_none(server, connect, told):
    server.context = told
    with pytest.raises(ServerError, match="tells a context of"):
        connect()


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
