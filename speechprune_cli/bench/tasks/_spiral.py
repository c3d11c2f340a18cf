"""The published layout of SPIRAL, a folder with an index, `spiral/wavs` and `spiral/key_wavs`.

The records state which sentences answer, but no times. The sound of the answering sentence is there
by itself, so it is looked for in the recording.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.bench.tasks._checks import check_options, check_samples
from speechprune_cli.bench.tasks._excerpt import find_excerpt
from speechprune_cli.bench.tasks._lines import Record, Text, inside, read_lines
from speechprune_cli.bench.tasks.base import Task
from speechprune_cli.errors import AudioError, UsageError
from speechprune_cli.flow import SAMPLE_RATE

INDEX_PAGE = "https://github.com/linyueqian/SPIRAL_Dataset"
WAVS_PAGE = "https://duke.box.com/v/spiral-dataset"
LETTER = re.compile(r"\A[A-Z]\.\s+")

log = logging.getLogger("speechprune")


class Question(Record):
    """A question with lettered options; the answer is one of them, letter included."""

    question: Text
    choices: tuple[Text, ...]
    correct_answer: Text


class Metadata(Record):
    """What names a record and says what kind of talk it is."""

    id: Text
    transcript_type: Text


class KeySentences(Record):
    """Which sentences answer (`[start, end)`), and where they are by themselves."""

    indices: tuple[int, int]
    audio_dir: Text
    audio_file: Text


class Combined(Record):
    """The whole recording, and its sentences in order."""

    audio_folder: Text
    audio_files: Annotated[tuple[Text, ...], Field(min_length=1)]
    sentences: tuple[Text, ...]


class AudioData(Record):
    """The sound of a record."""

    key_sentences: KeySentences
    combined: Combined


class SpiralRecord(Record):
    """What is read of a published line; the rest of it repeats this in other forms."""

    test_question: Question
    metadata: Metadata
    audio_data: AudioData


def _locate(sample: SpiralSample) -> tuple[float, float]:
    from speechprune_cli.audio import load_audio

    recording = load_audio(sample.audio)
    with suppress(AudioError):  # the sentence by itself is missing or broken
        key = load_audio(sample.key)
        start = find_excerpt(recording.samples, key.samples)
        if start is not None:
            return start / SAMPLE_RATE, start / SAMPLE_RATE + key.seconds
    _warn_of_estimates()
    first, last = sample.key_shares
    return first * recording.seconds, last * recording.seconds


@dataclass(frozen=True, kw_only=True)
class SpiralSample(Sample):
    """Finds `key_span` when it is first read, in a fraction of a second.

    Reading it raises AudioError where the recording itself is missing or broken.
    """

    key: Path  # the sentence that answers, by itself
    key_shares: tuple[float, float]  # where it begins and ends, as shares of the transcript
    key_span: tuple[float, float] | None = field(  # type: ignore[assignment]  # of the default
        init=False, repr=False, compare=False, default=cached_property(_locate)
    )


class PublishedSpiral(Task):
    """The samples that the file `index` of the folder `data` lists."""

    name: ClassVar[str]
    index: ClassVar[str]

    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """Raises UsageError for a missing or bad index, AudioError where all sound is missing."""
        index = self.index
        tree = (
            f"put {index} from {INDEX_PAGE} into a folder, unpack the wavs from {WAVS_PAGE} to "
            "spiral/wavs and spiral/key_wavs in it, and name it with --data"
        )
        if data is None:
            raise UsageError(f"{self.name} is not part of this package: {tree}")
        found = [path for path in (data / index, data / "spiral" / index) if path.is_file()]
        if not found:
            raise UsageError(f"{data}: there is no {index}: {tree}")
        lines, fingerprint = read_lines(found[0], SpiralRecord)
        placed = [_sample(data, place, record) for place, record in lines]
        source = str(found[0])
        samples = check_samples(source, placed, tree)
        return Benchmark(self.name, samples, source, fingerprint, published=self.published)


def _sample(folder: Path, place: str, record: SpiralRecord) -> tuple[str, Sample]:
    place = f"{place} ({record.metadata.id})"
    asked, sound = record.test_question, record.audio_data.combined
    key = record.audio_data.key_sentences
    if asked.correct_answer not in asked.choices:
        raise UsageError(f"{place}: the answer {asked.correct_answer!r} is none of the options")
    options = tuple(LETTER.sub("", choice, count=1) for choice in asked.choices)
    answer = options[asked.choices.index(asked.correct_answer)]
    check_options(place, options, answer)
    return place, SpiralSample(
        id=record.metadata.id,
        audio=inside(folder, f"{sound.audio_folder}/{sound.audio_files[0]}", place),
        question=asked.question,
        options=options,
        answer=answer,
        transcript=" ".join(sound.sentences),
        group=record.metadata.transcript_type,
        key=inside(folder, f"{key.audio_dir}/{key.audio_file}", place),
        key_shares=_shares(sound.sentences, key.indices, place),
    )


def _shares(
    sentences: tuple[str, ...], indices: tuple[int, int], place: str
) -> tuple[float, float]:
    first, last = indices
    count = len(sentences)
    if not 0 <= first < last <= count:
        raise UsageError(f"{place}: there are {count} sentences, none from {first} to {last}")
    lengths = [len(sentence) for sentence in sentences]
    return sum(lengths[:first]) / sum(lengths), sum(lengths[:last]) / sum(lengths)


@cache
def _warn_of_estimates() -> None:
    log.warning(
        "SPIRAL: where spiral/key_wavs lacks a key sentence, or it does not sound as in the "
        "recording, its times are estimated from the transcript"
    )
