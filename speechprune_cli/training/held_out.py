"""Recordings to test nano with: voices, wordings and facts that its training never heard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from speechprune_cli.spiral.grammar import Fact
from speechprune_cli.spiral.recording import Recording, Sentence, compose
from speechprune_cli.training.features import spoken_pool

SHORTEST, LONGEST = 80, 96
"""Seconds at which no further sentence is begun."""


def held_out_recordings(name: str, pool: Path, count: int, asked: int = 1) -> Iterator[Recording]:
    """`count` recordings of sentences in `pool`, a function of `name` and the pool alone."""
    sentences = [
        Sentence(s.samples, s.text, s.voice, Fact(**s.fact) if s.fact else None)
        for s in spoken_pool(pool)
    ]
    for number in range(count):
        rng = Random(f"{name}/{number}")
        yield compose(sentences, rng.uniform(SHORTEST, LONGEST), rng, asked=asked, held_out=True)
