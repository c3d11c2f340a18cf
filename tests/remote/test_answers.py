"""What goes to a server, and that its answers are the model's own."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from asking import CHOICES, prompt_of, said
from model_server import Fault, ModelServer

from speechprune_cli.errors import UsageError


@pytest.fixture(
    params=["audio_embeds", pytest.param("prompt_embeds", marks=pytest.mark.slow), "token ids"]
)
def both(request, joined, wholes):
    """A model here, and the same with its decoder at a server."""
    whole = wholes[request.param]
    server = ModelServer(whole.model)
    yield whole, joined(request.param, server.url), server
    server.close()


def test_answers_are_those_of_the_model(both):
    whole, served, server = both
    for keep in ("100%", "20%", "1"):
        ours, theirs = (said(each, prompt_of(each, keep=keep)) for each in (whole, served))
        assert theirs == ours
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


def test_no_more_than_asked_for_are_under_way(connect, server, monkeypatch):
    monkeypatch.setenv("SPEECHPRUNE_SERVER_REQUESTS", "3")
    served = connect()
    prompts = [prompt_of(served, keep=str(count)) for count in range(1, 13)]
    server.faults = [Fault(sleeps=0.02)] * len(prompts)
    served.respond_batch(prompts, max_new_tokens=2)
    assert server.busiest == 3


@pytest.mark.slow
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
