"""What a built benchmark is made of: briefs, scripts, recordings, verdicts."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("num2words", reason="building is an extra")
pytest.importorskip("pyloudnorm", reason="building is an extra")
pytest.importorskip("rapidfuzz", reason="building is an extra")

from speechprune_cli.builder import grammar
from speechprune_cli.builder.checks import CHECKS
from speechprune_cli.builder.fairness import position, verdicts
from speechprune_cli.builder.layouts import LAYOUTS
from speechprune_cli.builder.making import choose_voices
from speechprune_cli.builder.mixing import GRID, _in_room, cast, loudness, record
from speechprune_cli.builder.plan import LUFS, RATE, Plan
from speechprune_cli.builder.script import Sample, Script, Speech, Utterance
from speechprune_cli.builder.speakers import SPEAKERS
from speechprune_cli.builder.speakers.base import Voice
from speechprune_cli.builder.speakers.kokoro import HELD_OUT, Kokoro
from speechprune_cli.builder.topics import briefs, topics
from speechprune_cli.builder.writers import WRITERS
from speechprune_cli.builder.writers.base import spoken_seconds
from speechprune_cli.builder.writers.grammar import Grammar
from speechprune_cli.errors import UsageError

PAUSE = 0.375
VOICES = [Voice(f"{gender}{n}", gender) for gender in "fm" for n in range(4)]


class Noise:
    """A synthesizer whose every sentence and voice sounds different; 16 kHz."""

    def __init__(self):
        self.voices = tuple(voice.name for voice in VOICES)
        self.seed = 0

    def reseed(self, seed):
        self.seed = seed

    def say(self, text, voice, speed):
        rng = np.random.default_rng([*text.encode(), *voice.encode(), self.seed % 1000])
        samples = rng.standard_normal(round(1000 * len(text) / speed)) * (1 + len(voice) % 3)
        return (0.05 * samples).astype(np.float32), 16_000


def script(count: int = 9, key: int = 4, people: int = 3) -> Script:
    """Sentences that are all different, by people in turn."""
    said = tuple(
        Utterance(speaker=f"spk_{n % people + 1}", text=f"Number {n} is here.")
        for n in range(count)
    )
    options = ("one", "two", "three", "four")
    return Script(utterances=said, key=key, question="Which?", options=options, answer="two")


def says(text: str, words: str) -> bool:
    """Whether the words are said in a row."""
    return re.search(rf"\b{re.escape(words)}\b", text, re.IGNORECASE) is not None


def test_briefs_are_dealt_evenly():
    for count in (40, 41):
        dealt = briefs(Plan(samples=count, seed=3))
        for card in ("letter", "scenario"):
            counts = Counter(getattr(brief, card) for brief in dealt)
            assert max(counts.values()) - min(counts.values()) <= 1
        subtopics = Counter((brief.topic, brief.subtopic) for brief in dealt)
        assert len(subtopics) == 40
        assert max(subtopics.values()) <= 2
        strata = sorted(int(brief.position * count) for brief in dealt)
        assert strata == list(range(count))
        assert {brief.speakers for brief in dealt if brief.scenario == "meeting"} == {3, 4}


def test_another_seed_is_another_set():
    first, again, other = (briefs(Plan(samples=10, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_every_kind_of_fact_belongs_to_a_topic():
    used = {kind for subs in topics().values() for kinds in subs.values() for kind in kinds}
    assert used == set(grammar.rules())
    assert sum(len(subs) for subs in topics().values()) == 40


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("brief", briefs(Plan(samples=40, seconds=90)), ids=lambda b: b.subtopic)
def test_one_sentence_answers_and_the_wrong_options_are_said_beside_it(brief, held_out):
    written = Grammar(held_out=held_out).write(brief, Random(brief.number), set(), PAUSE)
    key = written.utterances[written.key].text
    assert written.letter == brief.letter
    assert says(key, written.answer)
    assert written.question != key
    at = max(0, written.key - 5)
    near = " ".join(utterance.text for utterance in written.utterances[at : written.key + 6])
    assert all(says(near, option) for option in written.options)
    others = [utterance.text for n, utterance in enumerate(written.utterances) if n != written.key]
    assert not any(says(text, written.answer) for text in others)
    assert len(written.speakers) == brief.speakers


@pytest.mark.parametrize("brief", briefs(Plan(samples=60, seconds=90)), ids=lambda b: b.id)
def test_scripts_are_as_long_as_asked_and_answer_where_asked(brief):
    written = Grammar().write(brief, Random(brief.number), set(), PAUSE)
    seconds = [spoken_seconds(utterance.text, PAUSE) for utterance in written.utterances]
    assert 0.85 < sum(seconds) / brief.seconds < 1.15
    found = sum(seconds[: written.key]) / (sum(seconds) - seconds[written.key])
    assert abs(found - brief.position) < 0.06


def test_an_hour_is_filled_without_saying_anything_twice():
    brief = briefs(Plan(samples=3, seconds=3600))[0]
    written = Grammar(held_out=True).write(brief, Random(0), set(), PAUSE)
    texts = [utterance.text for utterance in written.utterances]
    assert len(set(texts)) == len(texts) > 600


def test_questions_do_not_come_twice():
    brief = briefs(Plan(samples=1))[0]
    first = Grammar().write(brief, Random(0), set(), PAUSE)
    second = Grammar().write(brief, Random(0), {first.question}, PAUSE)
    assert second.question != first.question


def wordings(name: str) -> list[str]:
    """Of all kinds of facts."""
    return [wording for rule in grammar.rules().values() for wording in rule[name]]


def matches(wording: str, text: str) -> bool:
    """Whether the text is that wording about something."""
    begin, _, end = wording.partition("{s}")
    return re.fullmatch(f"{re.escape(begin)}.*{re.escape(end)}", text) is not None


def test_held_out_questions_are_held_out():
    for brief in briefs(Plan(samples=20)):
        written = Grammar(held_out=True).write(brief, Random(brief.number), set(), PAUSE)
        assert any(matches(q, written.question) for q in wordings("ask_held_out"))


@given(st.integers(0, 10_000), st.sampled_from(sorted(grammar.rules())))
@example(818, "hiding_place")  # the basket is in the waste basket
@example(2225, "room")  # hall A after the meeting
@settings(max_examples=60, deadline=None)
def test_contrasting_facts_cannot_be_mistaken(seed, kind):
    facts = grammar.draw_contrast(Random(seed), kind)
    for number, fact in enumerate(facts):
        for other in facts[:number]:
            assert grammar.apart(fact.value, other.value)
            assert grammar.apart(fact.subject, other.subject)
        rest = re.sub(rf"\b{fact.subject}\b", "", fact.statement)  # Professor Bell may be there
        told = [o.value for o in facts if says(fact.statement if o is fact else rest, o.value)]
        assert fact.value in told
        assert len(told) == 1 or (number == 0 and told == [fact.value, facts[1].value])


def test_sentences_go_on_small_but_for_names():
    assert grammar.within("The price is high.") == "the price is high."
    assert grammar.within("You are right.") == "you are right."
    assert grammar.within("I agree.") == "I agree."
    assert grammar.within("I'm sure.") == "I'm sure."
    assert grammar.within("Daniel is late.") == "Daniel is late."


def test_everybody_has_a_voice_and_women_and_men_take_turns():
    heard = Counter()
    for number in range(40):
        people = [f"spk_{n}" for n in range(number // 10 + 1)]
        voices = cast(people, VOICES, number, Random(number))
        assert len({voice.name for voice in voices}) == len(people)
        counts = Counter(voice.gender for voice in voices)
        assert abs(counts["f"] - counts["m"]) <= 1
        heard += counts
    assert heard["f"] == heard["m"]


def test_a_recording_has_every_sentence_where_it_says():
    plan = Plan(samples=1, seed=5)
    samples, speech = record(script(), 0, plan, VOICES, Noise())
    assert speech.rate == RATE
    assert len(samples) == speech.length == speech.spans[-1][1]
    assert set(speech.voices) == {"spk_1", "spk_2", "spk_3"}
    assert loudness(samples) == pytest.approx(LUFS, abs=0.05)
    end = 0
    for start, stop in speech.spans:
        assert start % GRID == stop % GRID == 0
        assert np.abs(samples[end:start]).max(initial=0) == 0, "a pause is silent"
        assert np.abs(samples[start : start + 2 * GRID]).max() > 0
        assert plan.pause[0] - 0.001 <= (start - end) / RATE <= plan.pause[1] + 0.001 or end == 0
        end = stop


def test_a_recording_depends_on_seed_and_number_alone():
    synthesizer = Noise()
    plan = Plan(samples=3)
    first = record(script(), 1, plan, VOICES, synthesizer)
    record(script(), 2, plan, VOICES, synthesizer)
    again = record(script(), 1, plan, VOICES, Noise())
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1].spans == again[1].spans
    assert not np.array_equal(
        first[0], record(script(), 2, plan, VOICES, Noise())[0][: len(first[0])]
    )


def test_overlaps_spare_the_sentence_that_answers():
    plan = Plan(samples=1, overlap=1.0)
    _, speech = record(script(), 0, plan, VOICES, Noise())
    gaps = [
        after[0] - before[1] for before, after in zip(speech.spans, speech.spans[1:], strict=False)
    ]
    assert [gap < 0 for gap in gaps] == [True] * 3 + [False] * 2 + [True] * 3
    assert min(gaps) >= -RATE // 2


def test_noise_is_as_far_below_speech_as_asked():
    sound = np.random.default_rng(0).standard_normal(3 * RATE) * 0.1
    heard = _in_room(sound, Plan(snr=12), np.random.default_rng(1))
    ratio = np.mean(sound**2) / np.mean((heard - sound) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(12)


def test_an_echo_dies_away_in_the_time_asked():
    click = np.zeros(2 * RATE)
    click[100] = 1
    heard = _in_room(click, Plan(reverb=0.5), np.random.default_rng(1))
    assert heard[100] == pytest.approx(1)
    power = [np.mean(heard[100 + at : 100 + at + RATE // 50] ** 2) for at in (480, 480 + RATE // 4)]
    assert 10 * np.log10(power[0] / power[1]) == pytest.approx(30, abs=3)
    assert np.abs(heard[101 + RATE // 2 :]).max() < 1e-12


def sample(number: int, **changes) -> Sample:
    """Spoken and measured, fair unless told otherwise."""
    place = changes.get("place", (number % 20) / 20)
    letter, right = number % 4, f"word{number} abc"
    options = [f"{right[:-1]}{other}" for other in "xyz"]
    options.insert(changes.get("letter", letter), right + changes.get("tail", ""))
    said = (
        Utterance(speaker="spk_1", text=f"Here are {' and '.join(options)}."),
        Utterance(speaker="spk_1", text="It is said."),
    )
    written = Script(
        utterances=said,
        key=1,
        question=changes.get("question", f"What is {hashlib.sha256(bytes([number])).hexdigest()}?"),
        options=tuple(options),
        answer=options[changes.get("letter", letter)],
    )
    start = round(place * 80 * RATE)
    speech = Speech(
        voices={"spk_1": "a"},
        genders={"spk_1": changes.get("gender", "fm"[number % 2])},
        rate=RATE,
        length=90 * RATE,
        spans=((0, start), (start, start + 10 * RATE)),
        took=1.0,
    )
    measures = {"sound": {"seconds": 90.0, "lufs": changes.get("lufs", -23.0), "clipped": 0.0}}
    brief = briefs(Plan(samples=200))[number]
    return Sample(brief=brief, script=written, speech=speech, measures=measures)


def unfair(samples, plan=None) -> set[str]:
    """Names of what is skewed."""
    return {v.name for v in verdicts(samples, plan or Plan()) if v.fair is False}


def test_a_fair_set_is_found_fair():
    assert unfair([sample(number) for number in range(200)]) == set()


@pytest.mark.parametrize(
    ("skew", "found"),
    [
        ({"letter": 1}, {"answer letters", "always B"}),
        ({"place": 0.1}, {"key sentence begins"}),
        ({"tail": "much longer"}, {"longest option"}),
        ({"gender": "m"}, {"voices"}),
        ({"lufs": -18.0}, {"loudness"}),
        ({"question": "What is it, then, if anything at all, and when, and where?"}, None),
    ],
)
def test_every_skew_is_found_and_no_other(skew, found):
    skewed = unfair([sample(number, **skew) for number in range(200)])
    assert skewed == (found or {"questions alike"})


def test_the_length_is_held_against_what_was_asked():
    assert unfair([sample(0, place=0.5)], Plan(seconds=30)) == {"length"}


def test_the_position_reaches_from_nought_to_one():
    assert position(sample(0, place=0)) == 0
    assert position(sample(0, place=1)) == pytest.approx(1)


def test_too_few_voices_are_told_before_anything_is_made(tmp_path):
    (tmp_path / "af_heart.bin").write_bytes(bytes(1024))
    speaker = Kokoro(voices_folder=str(tmp_path))
    with pytest.raises(UsageError, match="1 voices for up to 4 people"):
        choose_voices(speaker, Plan())
    with pytest.raises(UsageError, match="--voice zoe: kokoro has af_heart"):
        choose_voices(speaker, Plan(voices=("zoe",)))
    assert len(choose_voices(speaker, Plan(scenarios=("lecture",)))) == 1


def test_held_out_voices_are_those_that_nano_never_heard(tmp_path):
    for name in (*HELD_OUT, "af_heart", "ef_dora"):
        (tmp_path / f"{name}.bin").write_bytes(bytes(1024))
    names = [voice.name for voice in Kokoro(str(tmp_path)).voices()]
    assert set(names) == {*HELD_OUT, "af_heart"}
    assert {voice.name for voice in Kokoro(str(tmp_path), held_out=True).voices()} == set(HELD_OUT)


def test_parts_are_found_by_name():
    assert WRITERS.names == ("grammar", "llm")
    assert SPEAKERS.names == ("espeak", "kokoro", "piper", "styletts2")
    assert LAYOUTS.names == ("jsonl", "spiral")
    for registry in (WRITERS, SPEAKERS, LAYOUTS, CHECKS):
        with pytest.raises(UsageError, match=f"choose from {registry.names[0]}"):
            registry.part("nobody")
