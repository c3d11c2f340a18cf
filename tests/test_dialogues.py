"""The dialogues that readers are measured on: consistent, balanced, by voices kept apart."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import soundfile

pytest.importorskip("pyloudnorm", reason="building is an extra")

from benchmarks import dialogues, joined, judge

from speechprune_cli.bench import tasks
from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.scoring import normalise_answer
from speechprune_cli.builder.speakers.kokoro import HELD_OUT

ALL = dialogues.read()
QUESTIONS = [(dialogue, question) for dialogue in ALL for question in dialogue.questions]
EVERYDAY = [(dialogue, question) for dialogue, question in QUESTIONS if dialogue.set == "everyday"]
COMMON = re.compile(
    "what|which|where|when|who|whose|whom|how|many|much|why|was|were|are|been|does|did|will|have|"
    "has|had|having|can|could|should|might|must|would|the|and|from|with|for|not|into|out|this|"
    "that|they|them|their|she|her|his|him|one|any|some"
)
each_dialogue = pytest.mark.parametrize("dialogue", ALL, ids=lambda each: each.id)
each_question = pytest.mark.parametrize(
    ("dialogue", "question"), QUESTIONS, ids=[question.question for _, question in QUESTIONS]
)
each_index = pytest.mark.parametrize("index", dialogues.INDEXES)


def words(text: str) -> list[str]:
    """In small letters, without marks."""
    return re.findall(r"[a-z']+", text.lower())


def telling(text: str) -> set[str]:
    """Beginnings of the words that are neither short nor common."""
    return {word[:5] for word in words(text) if len(word) > 2 and not COMMON.fullmatch(word)}


def test_there_are_as_many_as_asked():
    assert len({dialogue.id for dialogue in ALL}) == len(ALL) == 30
    assert Counter(dialogue.index for dialogue in ALL) == {"tune": 8, "report": 8, "everyday": 14}
    assert {len(dialogue.questions) for dialogue in ALL} == {4}


def test_nothing_is_tuned_on_everyday_dialogues():
    assert {dialogue.half for dialogue, _ in EVERYDAY} == {"report"}


@each_index
def test_right_options_are_in_all_places_alike(index):
    places = Counter(q.options.index(q.answer) for d, q in QUESTIONS if d.index == index)
    assert set(places) == {0, 1, 2, 3}
    assert len(set(places.values())) == 1


@each_index
def test_right_options_are_not_told_by_their_length(index):
    asked = [question for dialogue, question in QUESTIONS if dialogue.index == index]
    for extreme in (max, min):
        assert sum(extreme(q.options, key=len) == q.answer for q in asked) < 0.4 * len(asked)


@pytest.mark.parametrize("half", dialogues.HALVES)
def test_both_halves_ask_for_all_kinds_of_things(half):
    kinds = Counter(question.kind for dialogue, question in QUESTIONS if dialogue.index == half)
    assert set(kinds) == set(dialogues.Question.model_fields["kind"].annotation.__args__)
    assert kinds["paraphrase"] == 8


def test_few_everyday_questions_need_two_sentences():
    both = [question for _, question in EVERYDAY if len(question.key) > 1]
    assert [question.kind for question in both] == ["two"] * len(both)
    assert len(both) <= len(EVERYDAY) / 4


@pytest.mark.parametrize(
    ("dialogue", "question"), EVERYDAY, ids=[question.question for _, question in EVERYDAY]
)
def test_everyday_facts_are_told_once_where_the_key_says(dialogue, question):
    texts = [text for _, text in dialogue.utterances]
    found = [text for text in texts if judge.holds(text, question.answers)]
    assert found
    assert set(found) <= set(question.key)


@pytest.mark.parametrize(
    "question", [question for _, question in EVERYDAY], ids=lambda question: question.question
)
def test_wordings_are_in_no_wrong_option_and_not_in_the_question(question):
    right = [option for option in question.options if judge.holds(option, question.answers)]
    assert set(right) <= {question.answer}
    assert not judge.holds(question.question, question.answers)


@pytest.mark.parametrize(
    "dialogue", [each for each in ALL if each.set == "everyday"], ids=lambda each: each.id
)
def test_hardly_any_wrong_option_is_said_in_everyday_dialogues(dialogue):
    said = telling(" ".join(text for _, text in dialogue.utterances))
    own = [
        telling(option) - telling(question.answer)
        for question in dialogue.questions
        for option in question.options
        if option != question.answer
    ]
    assert all(own)
    assert sum(those <= said for those in own) <= 1


@each_dialogue
def test_people_have_voices_of_their_own_that_were_kept_apart(dialogue):
    assert 2 <= len(dialogue.voices) <= 4
    assert len(set(dialogue.voices.values())) == len(dialogue.voices)
    assert set(dialogue.voices.values()) <= set(HELD_OUT)
    assert {speaker for speaker, _ in dialogue.utterances} == set(dialogue.voices)


@each_dialogue
def test_dialogues_are_long_enough_and_say_nothing_twice(dialogue):
    texts = [text for _, text in dialogue.utterances]
    assert 165 <= len(words(" ".join(texts))) <= 240
    assert len(set(texts)) == len(texts)


@each_question
def test_questions_hold_together(dialogue, question):
    assert len({normalise_answer(option) for option in question.options}) == 4
    assert question.answer in question.options
    assert len({normalise_answer(each) for each in question.answers}) == len(question.answers)
    texts = [text for _, text in dialogue.utterances]
    places = [texts.index(key) for key in question.key]
    assert places == sorted(places)
    assert all(after - before <= 3 for before, after in pairwise(places))
    if question.kind == "two":
        assert len(places) == 2


@pytest.mark.parametrize(
    "question",
    [question for _, question in QUESTIONS if question.kind == "paraphrase"],
    ids=lambda question: question.question,
)
def test_paraphrases_share_no_telling_word_with_what_answers(question):
    assert not telling(question.question) & telling(" ".join(question.key))


class Tone:
    """Says every text as a tone of 20 ms a letter, at 24 kHz."""

    voices = HELD_OUT

    def reseed(self, seed):
        pass

    def say(self, text, voice, speed):
        time = np.arange(480 * len(text)) / 24_000
        pitch = 200 * (1 + HELD_OUT.index(voice))
        return (0.1 * np.sin(2 * np.pi * pitch * time)).astype(np.float32), 24_000


def test_what_is_said_is_where_its_times_say():
    dialogue = ALL[0]
    samples, said = dialogues.speak(dialogue, Tone(), seed=1)
    again, _ = dialogues.speak(dialogue, Tone(), seed=1)
    np.testing.assert_array_equal(samples, again)
    loud = np.abs(samples) > 0.01
    end = -1.0
    for each, (_, text) in zip(said, dialogue.utterances, strict=True):
        assert each["end"] - each["start"] == pytest.approx(0.02 * len(text), abs=0.002)
        assert each["start"] == 0 or 0.149 <= each["start"] - end <= 0.501
        inside = slice(round(each["start"] * 16_000) + 160, round(each["end"] * 16_000) - 160)
        assert loud[inside].mean() > 0.8
        pause = slice(max(0, round(end * 16_000) + 16), max(0, round(each["start"] * 16_000) - 16))
        assert not loud[pause].any()
        end = each["end"]


@pytest.fixture
def speech(tmp_path):
    """Five recordings of different tones and lengths, with a question each."""
    lines = []
    for number in range(5):
        seconds = 2 + 0.25 * number
        time = np.arange(round(seconds * 16_000)) / 16_000
        soundfile.write(
            tmp_path / f"{number}.flac", 0.1 * np.sin(1500 * (1 + number) * time), 16_000
        )
        lines.append({
            "id": f"lecture_{number}", "audio": f"{number}.flac", "question": f"Which is {number}?",
            "options": ["this", "that"], "answer": "that", "voices": ["af_heart"],
            **({"key": [0.5, seconds - 0.5]} if number else {}),
        })  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "spoken.jsonl").write_text(text, "utf-8")
    return tmp_path


def join(monkeypatch, *arguments) -> Benchmark:
    """Run the script and read what it wrote as a benchmark."""
    monkeypatch.setattr(sys, "argv", ["joined.py", *map(str, arguments)])
    joined.main()
    return tasks.load_task("jsonl", arguments[1], offline=True)


def test_joined_recordings_hold_every_record_where_its_question_says(speech, monkeypatch):
    found = join(monkeypatch, speech, speech / "out", "--seconds", "14")
    whole, _ = soundfile.read(found.samples[0].audio)
    assert 14 <= len(whole) / 16_000 < 14 + 4
    assert len(found.samples) == len({sample.id for sample in found.samples}) >= 4
    for sample in found.samples:
        name = sample.id.rpartition("_")[2]
        alone, _ = soundfile.read(speech / f"{name}.flac")
        assert (sample.key_span is None) == (name == "0")
        if sample.key_span:
            start = round((sample.key_span[0] - 0.5) * 16_000)
            np.testing.assert_allclose(whole[start : start + len(alone)], alone, atol=1e-4)


def test_joined_recordings_are_drawn_anew_and_asked_about_in_all_parts(speech, monkeypatch):
    options = ("--records", "4", "--recordings", "6", "--questions", "2")
    found = join(monkeypatch, speech, speech / "out", *options)
    again = join(monkeypatch, speech, speech / "again", *options)
    assert found.fingerprint == again.fingerprint
    asked = [[s for s in found.samples if s.audio.stem == f"{n:02d}"] for n in range(6)]
    assert len({tuple(s.question for s in both) for both in asked}) > 1
    for first, second in asked:
        half = soundfile.info(first.audio).duration / 2
        assert first.key_span[1] < half + 0.5
        assert second.key_span[0] > half - 0.5


def test_a_record_that_comes_again_is_asked_about_once(speech, monkeypatch):
    found = join(monkeypatch, speech, speech / "out", "--records", "12")
    assert len(found.samples) == 5
    assert all(sample.key_span[1] < 20 for sample in found.samples if sample.key_span)
