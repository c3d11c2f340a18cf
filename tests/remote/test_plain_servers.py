"""Servers that take text alone, and tell little."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from asking import CHOICES, prompt_of, said
from model_server import Fault, ModelServer
from tiny_models import QUESTION

from speechprune_cli.errors import ServerError, UsageError
from speechprune_cli.remote.letters import letter_shares


class TestPlainServers:
    """Servers that take text alone, and tell little."""

    @pytest.fixture
    def plain(self, wholes):
        server = ModelServer(wholes["token ids"].model, "Ollama")
        yield server
        server.close()

    def test_text_is_sent_and_read(self, joined, plain, wholes):
        served = joined("token ids", plain.url)
        text, count, _, pieces = said(served, prompt_of(served, keep="100%"))
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

    def test_a_prompt_that_is_refused_as_too_long(self, joined, plain):
        """As Ollama passes on what llama.cpp says to it."""
        served = joined("token ids", plain.url)
        why = "request (3093 tokens) exceeds the available context size (1024 tokens), "
        why += "try increasing it"
        inner = json.dumps({"error": {"code": 400, "message": why}})
        plain.faults = [Fault(400, {"error": {"message": inner}})]
        advice = ": keep less, or give it a longer context (OLLAMA_CONTEXT_LENGTH)"
        with pytest.raises(UsageError) as refusal:
            served.respond(prompt_of(served))
        assert str(refusal.value) == f"{plain.url} refuses: 400 {why}{advice}"
        assert refusal.value.exit_code == ServerError.exit_code

    def test_a_name_without_a_tag_is_the_latest(self, joined, plain):
        plain.names = ["other:latest", "reader:latest"]
        joined("token ids", f"{plain.url}#reader")
        assert plain.requests[-1]["model"] == "reader:latest"
        plain.names = ["reader:latest", "reader"]
        joined("token ids", f"{plain.url}#reader")
        assert plain.requests[-1]["model"] == "reader"

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
