"""The grammar of facts and the recordings made of them."""

from importlib.resources import files
from random import Random

import numpy as np
import pytest
import yaml

from speechprune_cli.builder import grammar
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.training.splicing import LOUDNESS, SpokenSentence, compose, wrong_options

KINDS = sorted(yaml.safe_load((files("speechprune_cli.builder") / "facts.yaml").read_text()))


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fact_says_its_answer_and_its_question_does_not(kind, held_out):
    rng = Random(kind)
    for _ in range(20):
        fact = grammar.draw_fact(rng, held_out=held_out, kind=kind)
        assert fact.value.lower() in fact.statement.lower()
        assert fact.distractor != fact.value
        wordings = grammar.questions(fact, held_out=held_out)
        assert wordings
        assert all("{" not in text for text in [*wordings, fact.statement])
        assert all(fact.subject.lower() in text.lower() for text in wordings)


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_wordings_are_never_trained_on(kind):
    rules = yaml.safe_load((files("speechprune_cli.builder") / "facts.yaml").read_text())[kind]
    assert not set(rules["say"]) & set(rules["say_held_out"])
    assert not set(rules["ask"]) & set(rules["ask_held_out"])
    assert not set(rules["bare"]) & set(rules["ask_held_out"])


def test_the_same_seed_draws_the_same_facts():
    first, second = ([grammar.draw_fact(Random(7)) for _ in range(3)] for _ in range(2))
    assert first == second


def test_wrong_options_are_wrong_and_different():
    rng = Random(0)
    for _ in range(200):
        fact = grammar.draw_fact(rng)
        options = wrong_options(fact, rng)
        assert len({fact.value, *options}) == 4


def test_numbers_are_spelled_as_they_are_spoken():
    rng = Random(0)
    slots = ("date", "time", "money", "count", "room", "extension", "duration", "percent", "year")
    for slot in slots:
        for _ in range(50):
            text = grammar.draw_word(rng, slot)
            assert not any(letter.isdigit() or letter in "-,$%" for letter in text), text


@pytest.fixture
def pool():
    rng, noise = Random(0), np.random.default_rng(0)
    sentences = []
    for number in range(300):
        fact = grammar.draw_fact(rng) if number % 3 else None
        samples = noise.standard_normal(rng.randint(8_000, 40_000)).astype(np.float32)
        sentences.append(SpokenSentence(samples, str(number), f"voice{number % 5}", fact))
    return sentences


@pytest.mark.parametrize("seed", range(5))
def test_a_recording_holds_what_is_asked_at_the_times_it_states(pool, seed):
    recording = compose(pool, 60, Random(seed), asked=3)
    assert 60 <= recording.seconds < 66
    assert len(recording.questions) == 3
    by_text = {sentence.text: sentence for sentence in pool}
    facts = [by_text[text].fact for text in recording.texts if by_text[text].fact]
    subjects = [(fact.kind, fact.subject) for fact in facts]
    assert len(set(subjects)) == len(subjects)
    for question in recording.questions:
        assert question.answer in question.options
        assert len(set(question.options)) == 4
        start, end = (round(t * SAMPLE_RATE) for t in (question.start, question.end))
        said = next(
            s
            for s in pool
            if s.fact and s.fact.value == question.answer and s.text in recording.texts
        )
        expected = said.samples * (LOUDNESS / np.sqrt(np.mean(said.samples**2)))
        assert end - start == len(expected)
        np.testing.assert_allclose(recording.samples[start:end], expected, atol=1e-4)
