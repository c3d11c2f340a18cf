"""One session used by many threads gives what it gives to one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from conftest import make_audio

from speechprune_cli.cache import TokenCache
from speechprune_cli.pipeline import Session, load

THREADS = 8
QUESTIONS = ("When is the report due?", "Who is in the red house?")
METHODS = ("speechprune", "segmentwise", "omnizip", "cue")  # two of them read the attention


def ask(session, number):
    audio = make_audio(4.0 + 9.0 * number, seed=number)
    method = METHODS[number % len(METHODS)]
    return [
        session.ask(audio, question, keep="40%", method=method, max_new_tokens=8)
        for question in QUESTIONS
    ]


def same(one, other):
    return (
        torch.equal(one.tokens.embeds, other.tokens.embeds)
        and torch.equal(one.tokens.attention, other.tokens.attention)
        and torch.equal(one.selection.kept, other.selection.kept)
        and one.answer.text == other.answer.text
    )


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["tiny_model_folder", "tiny_voxtral_folder"])
@pytest.mark.parametrize("cached", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_threads_get_what_one_gets(folder, cached, request, tmp_path):
    session = load(str(request.getfixturevalue(folder)), cache=False)
    alone = [ask(session, number) for number in range(THREADS)]
    if cached:
        session = Session(session.model, TokenCache(tmp_path))
    together = Barrier(THREADS)

    def work(number):
        together.wait()
        return ask(session, number)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(THREADS)))
    for expected, got in zip(alone, found, strict=True):
        assert all(map(same, expected, got))


def test_a_check_waits_for_its_turn(tiny_model_folder):
    """It needs the tokenizer, which another thread may be using."""
    session = load(str(tiny_model_folder), cache=False)
    with ThreadPoolExecutor(1) as pool:
        with session.model.lock:
            waiting = pool.submit(session.check, QUESTIONS[0], ["yes", "no"])
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert waiting.result() == ("yes", "no")
