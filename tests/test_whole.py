"""Questions about the whole, and questions that a recording does not answer."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("num2words", reason="training is an extra")

import declined
import judge
import swapped
import whole
from spoken_spiral import TUNED_ON, halves, read_texts

from speechprune_cli.bench import tasks
from speechprune_cli.bench.line import Given, Line
from speechprune_cli.bench.store import Run
from speechprune_cli.pipeline import NO_WORDS

SHARED = Path(__file__).parents[2] / "shared"
SPEECH, TEXT = SHARED / "speech" / "spiral", SHARED / "data" / "spiral_300.jsonl"
WRITTEN = whole.read()
with_records = pytest.mark.skipif(
    not (SPEECH.is_dir() and TEXT.is_file()), reason="SPIRAL's spoken records are not here"
)
TOPICS = {"Tea": ("Green", "Black", "White", "Red"), "Boats": ("Oars", "Sails", "Steam", "Rafts")}


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """SPEECH and TEXT of 40 lectures; the last 25 are not tuned on. Their answer is a number."""
    spoken, texts = [], []
    for number in range(40):
        topic = sorted(TOPICS)[number % 2]
        name, subtopic = f"lecture_{number:02d}", TOPICS[topic][number // 2 % 4]
        said = f"Hello. It is about {subtopic} and costs {500 + number}."
        soundfile.write(tmp_path / f"{name}.flac", np.zeros(1600), 16_000)
        spoken.append({
            "id": name, "audio": f"{name}.flac", "question": f"What does {subtopic} cost?",
            "options": [str(500 + number), "nothing"], "answer": str(500 + number),
        })  # fmt: skip
        texts.append({
            "metadata": {"id": name, "main_topic": topic, "subtopic": subtopic},
            "transcript": [{"text": said.split(". ")}],
        })  # fmt: skip
    for name, records in (("spoken", spoken), ("texts", texts)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / f"{name}.jsonl").write_text(text, "utf-8")
    answers = {record["id"]: [record["answer"]] for record in spoken}
    monkeypatch.setattr(swapped, "wordings", lambda: answers)
    return tmp_path, tmp_path / "texts.jsonl"


def made(monkeypatch, script, speech, text, work):
    """Run a script and read what it wrote as a benchmark."""
    monkeypatch.setattr(sys, "argv", ["", *map(str, (speech, text, work))])
    script.main()
    (index,) = work.glob("*.jsonl")
    return tasks.load_task("jsonl", index, offline=True)


def by_group(samples):
    """The same, by group."""
    return {group: [s for s in samples if s.group == group] for group in {s.group for s in samples}}


def test_what_a_recording_is_about_stands_among_its_topics_other_subtopics(made_up, monkeypatch):
    found = made(monkeypatch, whole, *made_up, made_up[0] / "work")
    told = read_texts(made_up[1])
    assert [sample.id for sample in found.samples] == [f"about_lecture_{n}" for n in range(15, 40)]
    for sample in found.samples:
        record = told[sample.id.removeprefix("about_")]
        assert sample.answer == record.subtopic
        assert set(sample.options) == set(TOPICS[record.topic])
    places = Counter(sample.options.index(sample.answer) for sample in found.samples)
    assert sorted(places.values()) == [6, 6, 6, 7]


def test_swapped_questions_permit_not_to_answer_and_are_not_answered(made_up, monkeypatch):
    found = made(monkeypatch, swapped, *made_up, made_up[0] / "work")
    told, groups = read_texts(made_up[1]), by_group(found.samples)
    assert {group: len(those) for group, those in groups.items()} == dict.fromkeys(
        ("own", "near", "far"), 25
    )
    for group, those in groups.items():
        for sample in those:
            asked, heard = sample.id.removeprefix(f"{group}_"), sample.audio.stem
            assert sample.question.endswith('answer "not said".')
            assert (asked == heard) == (group == "own")
            if group == "own":
                assert sample.answer in told[heard].said
            else:
                assert told[asked].topic != told[heard].topic
                assert sample.answer == "not said"


@pytest.mark.parametrize("script", [whole, swapped])
def test_questions_are_the_same_whenever_they_are_made(script, made_up, monkeypatch):
    first, again = (made(monkeypatch, script, *made_up, made_up[0] / name) for name in "ab")
    assert first.fingerprint == again.fingerprint


def test_the_nearest_recording_shares_the_rarest_words():
    texts = ["the cost of sails", "the cost of tea", "the cost of rafts", "the weather"]
    rarity = swapped.rarities(texts)
    likeness = partial(swapped.likeness, "What is the cost of sails?", rarity=rarity)
    assert sorted(texts, key=likeness) == [texts[3], *texts[1:3], texts[0]]


def test_a_recording_that_says_the_answer_in_other_digits_is_not_silent(made_up):
    told = read_texts(made_up[1])
    assert swapped.is_silent("lecture_20", "lecture_21", told, ["520"])
    assert not swapped.is_silent("lecture_20", "lecture_21", told, ["five hundred and twenty-one"])
    assert not swapped.is_silent("lecture_20", "lecture_22", told, ["520"])  # of the same topic


def test_what_is_written_about_the_whole_holds_together():
    assert len(WRITTEN) >= 20
    for each in WRITTEN.values():
        assert len({*each.order, each.unsaid}) == len({each.end, *each.not_end}) == 4


@with_records
def test_of_the_records_enough_is_asked_about_the_whole(monkeypatch, tmp_path):
    groups = by_group(made(monkeypatch, whole, SPEECH, TEXT, tmp_path).samples)
    assert len(groups["about"]) >= 40
    assert len(groups["order"]) == len(groups["unsaid"]) == len(groups["end"]) == len(WRITTEN)
    report = {record.id for record in halves(SPEECH)["report"]}
    for samples in groups.values():
        places = Counter(sample.options.index(sample.answer) for sample in samples)
        assert max(places.values()) - min(places.values()) <= 1
        assert {sample.id.partition("_")[2] for sample in samples} <= report
        for extreme in (max, min):
            told = sum(extreme(sample.options, key=len) == sample.answer for sample in samples)
            assert told < 0.4 * len(samples)


@with_records
@pytest.mark.slow
def test_of_the_records_enough_is_asked_that_others_do_not_answer(monkeypatch, tmp_path):
    samples = made(monkeypatch, swapped, SPEECH, TEXT, tmp_path).samples
    told, answers, groups = read_texts(TEXT), swapped.wordings(), by_group(samples)
    report = {record.id for record in halves(SPEECH)["report"]}
    assert set(answers) <= report
    assert len(groups["near"]) + len(groups["far"]) >= 100
    assert len(groups["own"]) == len(answers)
    for sample in samples:
        said, wordings = told[sample.audio.stem].said, answers[sample.id.partition("_")[2]]
        assert judge.holds(said, wordings) == (sample.group == "own"), sample.id


def test_nothing_is_reported_on_that_was_tuned_on(made_up):
    parts = halves(made_up[0])
    assert [len(parts[part]) for part in ("tune", "report")] == [TUNED_ON, 25]
    assert not {record.id for record in parts["tune"]} & {record.id for record in parts["report"]}


@pytest.mark.parametrize(
    "text",
    [
        "Not said.",
        "not said",
        "The recording does not say it.",
        "The transcript doesn’t mention a percentage.",
        "It is not explicitly stated.",
        "There is no mention of Norway.",
        "No information is given.",
        "This cannot be determined from the recording.",
        "The percentage is not mentioned.",
        "Answer: “not said”.",
        "Not mentioned, the lecture is about tea.",
        "Unknown.",
        "None.",
        NO_WORDS,
        "",
    ],
)
def test_an_answer_declines(text):
    assert declined.declines(text)


@pytest.mark.parametrize(
    "text",
    [
        "Over 90%.",
        "Not in Norway, but in Denmark.",
        "They said no.",
        "Dr. Knott said so.",
        "Note 3",
        "They cannot tell the difference between the two.",
        "It didn't include tax, so $40",
        "He did not mention it to her.",
        "Because the room was not available.",
        "None of the suppliers, but the bank.",
        "They gave her no information.",
    ],
)
def test_an_answer_does_not_decline(text):
    assert not declined.declines(text)


ANSWERED = (
    ("own_lecture_59", "full", "Climate risk."),
    ("own_lecture_59", "cue 0.2", "Not said."),
    ("own_lecture_76", "full", "Not said."),
    ("near_lecture_59", "full", "Not said."),
    ("far_lecture_59", "full", "It does not say."),
    ("near_lecture_59", "cue 0.2", "Profit."),
    ("far_lecture_59", "cue 0.2", "Not mentioned."),
)


def test_invented_answers_of_a_run_are_counted_by_condition(tmp_path, monkeypatch, capsys):
    with Run(tmp_path).appending() as file:
        for sample, condition, text in ANSWERED:
            given = (Given((), text, None, None),)
            file.write(
                Line(
                    sample=sample,
                    condition=condition,
                    method="m",
                    status="ok",
                    answers=given,
                    f1=0.0,
                )
            )
    monkeypatch.setattr(sys, "argv", ["declined.py", str(tmp_path)])
    declined.main()
    told = [block.splitlines() for block in capsys.readouterr().out.strip().split("\n\n")]
    counts = {title: [re.sub(r" \(.*?\)", "", row)[25:] for row in rows] for title, *rows in told}
    p = ", p = 1.000 against full"
    assert counts == {
        "own recordings, right": ["1 of 2 = 50%", f"0 of 1 = 0%{p}"],
        "own recordings, declined": ["1 of 2 = 50%", f"1 of 1 = 100%{p}"],
        "other recordings (near and far), invented": ["0 of 2 = 0%", f"1 of 2 = 50%{p}"],
        "other recordings (near), invented": ["0 of 1 = 0%", f"1 of 1 = 100%{p}"],
        "other recordings (far), invented": ["0 of 1 = 0%", f"0 of 1 = 0%{p}"],
    }


def test_other_runs_are_not_counted(tmp_path, monkeypatch):
    with Run(tmp_path).appending() as file:
        file.write(
            Line(sample="barber_1", condition="full", method="full", status="error", error="late")
        )
    monkeypatch.setattr(sys, "argv", ["declined.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"barber_1: none of the questions that swapped\.yaml"):
        declined.main()
