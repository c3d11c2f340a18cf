"""The pool of spoken sentences that training and test recordings are spliced from.

Sentence i of a split is a function of the seed, so a run that was interrupted goes on where it
stopped, and several processes can share the work.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import soundfile
import soxr

from speechprune_cli.builder.grammar import Fact, draw_fact, fillers
from speechprune_cli.builder.speakers.base import Synthesizer
from speechprune_cli.builder.speakers.kokoro import HELD_OUT
from speechprune_cli.flow import SAMPLE_RATE

FILLER_SHARE = 0.12


@dataclass(frozen=True)
class PoolSentence:
    """One sentence of the pool: its words, its voice and the fact it states, if any."""

    name: str
    text: str
    voice: str
    speed: float
    fact: Fact | None


def plan_sentence(split: str, index: int, voices: tuple[str, ...]) -> PoolSentence:
    """Sentence `index` of a split; splits named `test*` use held-out wordings and voices only."""
    rng = Random(f"{split}/{index}")
    held_out = split.startswith("test")
    allowed = [v for v in voices if (v in HELD_OUT) == held_out]
    fact = None if rng.random() < FILLER_SHARE else draw_fact(rng, held_out=held_out)
    text = fact.statement if fact else rng.choice(fillers(held_out=held_out))
    voice, speed = rng.choice(allowed), round(rng.uniform(0.95, 1.3), 2)
    return PoolSentence(f"{split}-{index:05d}", text, voice, speed, fact)


def speak(
    engine: Synthesizer, split: str, count: int, folder: Path, part: int = 0, parts: int = 1
) -> None:
    """Synthesize sentences `part, part + parts, ...` below `count` that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(part, count, parts):
        sentence = plan_sentence(split, index, engine.voices)
        target = folder / f"{sentence.name}.flac"
        if target.exists():
            continue
        samples, rate = engine.say(sentence.text, sentence.voice, sentence.speed)
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
        partial = target.with_suffix(".part")
        soundfile.write(partial, np.clip(samples, -1, 1), SAMPLE_RATE, format="FLAC")
        target.with_suffix(".json").write_text(json.dumps(asdict(sentence)), "utf-8")
        partial.rename(target)
