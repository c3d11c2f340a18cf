"""Whole recordings from spoken sentences, with the times at which everything is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from speechprune_cli.builder.grammar import Fact, draw_word, questions, rules
from speechprune_cli.flow import SAMPLE_RATE

LOUDNESS = 0.05
"""Root mean square that every sentence is brought to."""


@dataclass(frozen=True)
class SpokenSentence:
    """A spoken sentence: samples at 16 kHz, words, voice, and the fact it states, if any."""

    samples: np.ndarray
    text: str
    voice: str
    fact: Fact | None


@dataclass(frozen=True)
class Scenario:
    """How many people talk, and how much of what they say is a fact."""

    name: str
    voices: int
    facts: float


SCENARIOS = (
    Scenario("lecture", 1, 0.65),
    Scenario("conversation", 2, 0.6),
    Scenario("meeting", 4, 0.6),
)


@dataclass(frozen=True)
class Question:
    """A question with its answer, three wrong options, and where the answer is said."""

    text: str
    answer: str
    options: tuple[str, ...]
    """Shuffled, the answer among them."""
    kind: str
    start: float
    end: float
    """Of the sentence that answers, in seconds."""


@dataclass(frozen=True)
class SplicedRecording:
    """A spoken recording and what can be asked about it."""

    samples: np.ndarray
    scenario: str
    texts: tuple[str, ...]
    questions: tuple[Question, ...]

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / SAMPLE_RATE


def compose(
    pool: Sequence[SpokenSentence],
    seconds: float,
    rng: Random,
    *,
    asked: int = 1,
    held_out: bool = False,
) -> SplicedRecording:
    """Put sentences in a row until `seconds` are reached, and ask about `asked` of the facts.

    No two facts of a recording share kind and subject, so every question has one answer. The
    position of what is asked is uniform over the facts.
    """
    scenario = rng.choice(SCENARIOS)
    voices = rng.sample(sorted({s.voice for s in pool}), scenario.voices)
    taken: set[tuple[str, str]] = set()

    def drawn() -> Iterator[SpokenSentence]:
        while True:
            yield _draw(pool, rng.choice(voices), rng.random() < scenario.facts, taken, rng)

    return splice(drawn(), seconds, rng, scenario=scenario.name, asked=asked, held_out=held_out)


def splice(
    sentences: Iterable[SpokenSentence],
    seconds: float,
    rng: Random,
    *,
    scenario: str,
    asked: int,
    held_out: bool,
) -> SplicedRecording:
    """The first of `sentences`, with pauses, until `seconds` are reached or none is left.

    Questions ask about `asked` of the facts among them, drawn at random.
    """
    spoken, starts, length = [], [], 0
    parts: list[np.ndarray] = []
    for sentence in sentences:
        pause = np.zeros(int(rng.uniform(0.1, 0.7) * SAMPLE_RATE), np.float32)
        loudness = np.sqrt(np.mean(sentence.samples**2)) + 1e-6
        spoken.append(sentence)
        starts.append(length)
        parts += [sentence.samples * (LOUDNESS / loudness), pause]
        length += len(sentence.samples) + len(pause)
        if length >= seconds * SAMPLE_RATE:
            break
    asked_about = rng.sample([i for i, s in enumerate(spoken) if s.fact], asked)
    return SplicedRecording(
        np.clip(np.concatenate(parts), -1, 1).astype(np.float32),
        scenario,
        tuple(s.text for s in spoken),
        tuple(_ask(spoken[i], starts[i], rng, held_out) for i in asked_about),
    )


def wrong_options(fact: Fact, rng: Random, count: int = 3) -> list[str]:
    """Distinct wrong answers of the right sort; a spoken distractor comes first."""
    options = [fact.distractor]
    while len(options) < count:
        option = draw_word(rng, rules()[fact.kind]["v"])
        if option != fact.value and option not in options:
            options.append(option)
    return options


def _draw(
    pool: Sequence[SpokenSentence], voice: str, fact: bool, taken: set[tuple[str, str]], rng: Random
) -> SpokenSentence:
    candidates = [
        s for s in pool if s.voice == voice and bool(s.fact) == fact and _key(s) not in taken
    ]
    if not candidates:
        candidates = [s for s in pool if _key(s) not in taken]
    sentence = rng.choice(candidates)
    taken.add(_key(sentence))
    return sentence


def _key(sentence: SpokenSentence) -> tuple[str, str]:
    fact = sentence.fact
    return (fact.kind, fact.subject) if fact else ("", sentence.text)


def _ask(sentence: SpokenSentence, start: int, rng: Random, held_out: bool) -> Question:
    fact = sentence.fact
    if fact is None:
        raise ValueError("only a sentence that states a fact can be asked about")
    options = [fact.value, *wrong_options(fact, rng)]
    rng.shuffle(options)
    return Question(
        rng.choice(questions(fact, held_out=held_out)),
        fact.value,
        tuple(options),
        fact.kind,
        start / SAMPLE_RATE,
        (start + len(sentence.samples)) / SAMPLE_RATE,
    )
