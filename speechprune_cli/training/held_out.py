"""Recordings to test nano with: voices, wordings and facts that its training never heard."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path
from random import Random

from speechprune_cli.builder.grammar import Fact
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.training.features import Sound, spoken_pool, transcribed
from speechprune_cli.training.splicing import SplicedRecording, SpokenSentence, compose, splice

SHORTEST, LONGEST = 80, 96
"""Seconds at which no further sentence is begun."""
MEAN_PAUSE = 0.4
"""Seconds between sentences."""


def held_out_recordings(
    name: str, pool: Path, count: int, asked: int = 1
) -> Iterator[SplicedRecording]:
    """`count` recordings of sentences in `pool`, a function of `name` and the pool alone."""
    sentences = [_sentence(sound) for sound in spoken_pool(pool)]
    for number in range(count):
        rng = Random(f"{name}/{number}")
        yield compose(sentences, rng.uniform(SHORTEST, LONGEST), rng, asked=asked, held_out=True)


def long_recordings(
    pool: Path, filler: Path, minutes: float, count: int
) -> Iterator[SplicedRecording]:
    """`count` recordings of one fact of `pool` amid the transcribed speech that `filler` lists.

    The fact stands anywhere with the same probability, and is asked about.
    """
    facts = [sentence for sentence in map(_sentence, spoken_pool(pool)) if sentence.fact]
    others = [_sentence(sound) for sound in transcribed(filler)]
    for number in range(count):
        rng = Random(f"long/{minutes:g}/{number}")
        rng.shuffle(others)
        spoken, length = [], 0.0
        for sentence in others:
            spoken.append(sentence)
            length += len(sentence.samples) / SAMPLE_RATE + MEAN_PAUSE
            if length >= 60 * minutes:
                break
        spoken.insert(rng.randint(0, len(spoken)), rng.choice(facts))
        yield splice(spoken, inf, rng, scenario="long", asked=1, held_out=True)


def _sentence(sound: Sound) -> SpokenSentence:
    fact = Fact(**sound.fact) if sound.fact else None
    return SpokenSentence(sound.samples, sound.text, sound.voice, fact)
