"""Open vocabulary, human voices: which words were said there? Four options, three from elsewhere.

Utterances of one speaker in a row make a recording; a question quotes the words beside the answer.
No transcript is read by the model, and no word list limits what is asked.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.training.splicing import Question, SplicedRecording
from speechprune_cli.training.tasks import AFTER, BEFORE
from speechprune_cli.training.text import normalise

SECONDS = 85
CUE_WORDS = 4


def natural_recordings(index: Path, asked: int = 20) -> Iterator[SplicedRecording]:
    """Recordings of about 85 s from a CSV with columns `file` and `transcript`."""
    rng = Random(0)
    with index.open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    texts = [normalise(row["transcript"]) for row in rows]
    for numbers in _recordings(index.parent, rows):
        samples = [
            soundfile.read(index.parent / rows[n]["file"], dtype="float32")[0] for n in numbers
        ]
        starts = np.cumsum([0, *map(len, samples)]) / SAMPLE_RATE
        elsewhere = [text for n, text in enumerate(texts) if n not in numbers]
        questions = []
        for place in rng.choices(range(len(numbers)), k=asked):
            question, answer = _question(texts[numbers[place]], rng)
            options = {answer}
            while len(options) < 4:
                options.add(_words(rng.choice(elsewhere), len(answer.split()), rng))
            shuffled = rng.sample(sorted(options), 4)
            questions.append(
                Question(
                    question, answer, tuple(shuffled), "words", starts[place], starts[place + 1]
                )
            )
        said = tuple(texts[n] for n in numbers)
        yield SplicedRecording(np.concatenate(samples), "reading", said, tuple(questions))


def _recordings(folder: Path, rows: list[dict]) -> Iterator[list[int]]:
    """Numbers of consecutive utterances of one speaker and chapter, about `SECONDS` in all."""
    chapters: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        chapters[row["file"].rpartition("-")[0]].append(number)
    for numbers in chapters.values():
        group: list[int] = []
        length = 0.0
        for number in numbers:
            group.append(number)
            length += soundfile.info(folder / rows[number]["file"]).duration
            if length >= SECONDS:
                yield group
                group, length = [], 0.0
        if length > SECONDS / 3:
            yield group


def _question(text: str, rng: Random) -> tuple[str, str]:
    words = text.split()
    length = rng.choice((2, 3))
    start = rng.randint(0, max(0, len(words) - length))
    answer = " ".join(words[start : start + length])
    left = " ".join(words[max(0, start - CUE_WORDS) : start])
    right = " ".join(words[start + length : start + length + CUE_WORDS])
    if left.count(" ") >= right.count(" "):
        return rng.choice(AFTER[:3]).format(cue=left), answer
    return rng.choice(BEFORE[:2]).format(cue=right), answer


def _words(text: str, count: int, rng: Random) -> str:
    words = text.split()
    start = rng.randint(0, max(0, len(words) - count))
    return " ".join(words[start : start + count])
