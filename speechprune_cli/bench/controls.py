"""What can be answered without hearing anything: the floors of a multiple-choice benchmark."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from speechprune_cli.bench.sample import Sample


@dataclass(frozen=True)
class Control:
    """A way to choose options that needs no model."""

    name: str
    n: int  # questions that it can be tried on
    right: float  # how many of them it gets right; options that tie share the question


def controls(samples: Iterable[Sample], permuted: bool) -> list[Control]:
    """All that can be tried on `samples`: none on open questions, two without transcripts.

    `permuted` says that every rotation of the options is asked, so that no place is best.
    """
    closed = [sample for sample in samples if sample.answer and sample.options]
    if not closed:
        return []
    found = [
        _constant(closed, permuted),
        _choose("longest option", closed, lambda sample, option: len(option)),
    ]
    spoken = [sample for sample in closed if sample.transcript]
    if spoken:
        found.append(_choose("most words in common", spoken, _in_common))
    return found


def _constant(samples: Sequence[Sample], permuted: bool) -> Control:
    """The answer in the commonest place, always."""
    if permuted:
        right = sum(1 / len(sample.options) for sample in samples)
        return Control("constant answer", len(samples), right)
    places = Counter(sample.options.index(sample.answer) for sample in samples)
    place, right = min(places.items(), key=lambda item: (-item[1], item[0]))
    return Control(f"always {ascii_uppercase[place]}", len(samples), right)


def _choose(name: str, samples: Sequence[Sample], score: Callable[[Sample, str], float]) -> Control:
    """The option of the highest score, expected over ties."""
    right = 0.0
    for sample in samples:
        scores = {option: score(sample, option) for option in sample.options}
        best = [option for option in sample.options if scores[option] == max(scores.values())]
        right += (sample.answer in best) / len(best)
    return Control(name, len(samples), right)


def _in_common(sample: Sample, option: str) -> float:
    """Share of the option's words that the transcript has."""
    words = _words(option)
    heard = frozenset(_words(sample.transcript or ""))
    return sum(word in heard for word in words) / max(len(words), 1)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
