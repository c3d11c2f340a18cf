"""Free answers, options, and what can be answered without hearing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprune_cli.bench.controls import controls
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.scoring import (
    exact_match,
    normalise_answer,
    rotations,
    token_f1,
)
from speechprune_cli.named import parse_letter

SPIRAL = Path(__file__).parents[2] / "shared" / "data" / "spiral_sample.jsonl"
CITIES = ("Budapest", "Bangkok", "New York", "New York City")


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        (" The  Eiffel Tower! ", "eiffel tower"),
        ("“It’s an apple”", "its apple"),
        ("10,000", "10000"),
        ("A", "a"),
        ("The The", "the the"),
        ("+", "+"),
        ("cafe\u0301", "caf\u00e9"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_squad_does(text, normalised):
    assert normalise_answer(text) == normalised


def test_an_answer_of_articles_is_not_silence():
    assert exact_match("a.", "A")
    assert not exact_match("", "A")
    assert not exact_match("...", "+")


def test_f1_counts_words_in_common():
    assert token_f1("in the city of Budapest", "Budapest city") == pytest.approx(2 * 2 / (4 + 2))
    assert token_f1("no no no", "no") == pytest.approx(0.5)
    assert token_f1("Bangkok", "Budapest") == 0
    assert token_f1("", "Budapest") == 0


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_f1_is_symmetric_and_one_for_equal_answers(text, other):
    assert token_f1(text, text) == 1
    assert exact_match(text, text)
    assert token_f1(text, other) == token_f1(other, text) <= 1
    if exact_match(text, other):
        assert token_f1(text, other) == 1


@settings(deadline=None)
@given(st.integers(1, 12))
def test_over_all_rotations_every_option_stands_in_every_place_once(count):
    orders = rotations(count)
    assert orders[0] == tuple(range(count))
    assert all(sorted(column) == list(range(count)) for column in zip(*orders, strict=True))
    assert all(sorted(order) == list(range(count)) for order in orders)


def test_an_open_question_is_asked_once():
    assert rotations(0) == [()]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1),
        ("b", 1),
        ("B.", 1),
        ("(b)", 1),
        ("**B**", 1),
        ("<B>", 1),
        ("B) Bangkok", 1),
        ("B - because", 1),
        ("b. because", 1),
        ("Answer: B", 1),
        ("Answer:\nB", 1),
        ("answer is b", 1),
        ('My answer is "C".', 2),
        ("The answer is B. Because he said so", 1),
        ("The answer is: C: New York.", 2),
        ("The correct answer is (B) because A is wrong", 1),
        ("The correct option is D", 3),
        ("A. Budapest\nB. Bangkok\nAnswer: B", 1),
        ("Option A is correct", 0),
        ("A, because he said so", 0),
        ("I'd say B sounds right", 1),
        ("B. Bangkok, not Budapest", 1),
        ("It is in bangkok.", 1),
        ("A trip to Bangkok", 1),
        ("A Bangkok", 1),
        ("New York", 2),
        ("new  york city", 3),
    ],
)
def test_free_answers_name_options(text, index):
    assert parse_letter(text, CITIES) == index


@pytest.mark.parametrize(
    "text",
    [
        "",
        "E",
        "A dog barked",
        "the answer is a dog",
        "I think it is a",
        "A or B",
        "Answer: A or B",
        "A, B",
        "A/B",
        "(a) or (b)",
        "Option A is wrong, B is right",
        "A. Bangkok",
        "Budapest and Bangkok",
        "New York or New York City",
        "A. Budapest B. Bangkok C. New York D. New York City",
        "J.B. Smith",
        "The answer is not given",
        "Bang kok",
    ],
)
def test_ambiguous_and_empty_answers_name_none(text):
    assert parse_letter(text, CITIES) is None


def test_numbers_are_named_whole():
    options = ("10", "20", "10,000", "15%")
    named = {text: parse_letter(text, options) for text in ("10.", "10,000", "10,500", "2010")}
    assert named == {"10.": 0, "10,000": 2, "10,500": None, "2010": None}
    assert parse_letter("15%.", options) == 3


def test_options_that_are_letters_have_to_agree_with_their_places():
    assert parse_letter("C", ("C", "D", "E")) is None
    assert parse_letter("E", ("C", "D", "E")) == 2
    assert parse_letter("Vitamin C.", ("Vitamin C", "Vitamin D", "Iron")) == 0


@settings(deadline=None)
@given(st.lists(st.text("xyz ", min_size=2), max_size=10), st.text(max_size=40))
def test_any_answer_is_read(options, text):
    named = parse_letter(text, options)
    assert named is None or 0 <= named < len(options)


@settings(deadline=None)
@given(st.lists(st.sampled_from(CITIES), min_size=2, unique=True), st.data())
def test_letters_name_options_in_any_order(options, data):
    index = data.draw(st.integers(0, len(options) - 1))
    letter = ascii_uppercase[index]
    for text in (letter, f"{letter}. {options[index]}", f"The answer is {letter}", options[index]):
        assert parse_letter(text, options) == index


def sample(options, answer, transcript=None) -> Sample:
    return Sample("id", Path("a.wav"), "Where?", options, answer, transcript=transcript)


def test_controls_of_known_samples():
    samples = [
        sample(("one", "three"), "three", "Three of them, or one."),
        sample(("one", "two", "nine nine"), "two"),
        sample((), "open"),
    ]
    found = {control.name: (control.n, control.right) for control in controls(samples, False)}
    assert found == {
        "always B": (2, 2),
        "longest option": (2, 1),
        "most words in common": (1, 0.5),
    }
    assert controls(samples, True)[0].name == "constant answer"
    assert controls(samples, True)[0].right == pytest.approx(1 / 2 + 1 / 3)


def test_controls_that_cannot_be_tried_are_left_out():
    assert controls([sample((), "open")], False) == []
    names = [control.name for control in controls([sample(("a", "b"), "a")], True)]
    assert names == ["constant answer", "longest option"]


def test_options_that_tie_share_a_question():
    [_, longest] = controls([sample(("aa", "bb", "c"), "aa"), sample(("a", "bb"), "a")], False)
    assert longest.right == 0.5


@pytest.mark.skipif(not SPIRAL.exists(), reason="needs the SPIRAL records")
def test_controls_of_spiral_records():
    samples = []
    for line in SPIRAL.read_text().splitlines():
        record = json.loads(line)
        asked = record["test_question"]
        options = tuple(choice[3:] for choice in asked["choices"])
        said = " ".join(record["audio_data"]["combined"]["sentences"])
        samples.append(sample(options, asked["correct_answer"][3:], said))
    constant, _, common = controls(samples, False)
    letters = Counter(ascii_uppercase[s.options.index(s.answer)] for s in samples)
    assert (constant.name, constant.right) == ("always B", letters["B"])
    assert common.right / common.n > 0.6, "the words alone give most answers away"
