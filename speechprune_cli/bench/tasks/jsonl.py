"""Your own questions about your own recordings (--data FILE.jsonl).

One JSON object a line, in UTF-8.
A folder that holds an `index.jsonl`, such as `speechprune build` makes, may be named instead.

    audio       path of the recording, from the folder of the file, which it may not leave
    question    text
    answer      with options: the text of the right one, or its letter (A is the first);
                without: the answer in words
    options     optional: list of 2 to 26 different texts, without letters
    id          optional: text, different on every line; otherwise the line's number
    key         optional: [start, end] in seconds of the sentence that answers
    transcript  optional: what is said in the recording
    group       optional: a kind of recording, such as "lecture"

Lines with and without options may be mixed; other keys are refused; blank lines are skipped.
"""

from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase

from pydantic import ConfigDict, FiniteFloat

from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.bench.tasks._checks import check_key, check_options, check_samples
from speechprune_cli.bench.tasks._lines import Record, Text, inside, read_lines
from speechprune_cli.bench.tasks.base import Task
from speechprune_cli.errors import UsageError


class Entry(Record):
    """The format documented above."""

    model_config = ConfigDict(extra="forbid")

    audio: Text
    question: Text
    answer: Text
    options: tuple[Text, ...] = ()
    id: Text | None = None
    key: tuple[FiniteFloat, FiniteFloat] | None = None
    transcript: Text | None = None
    group: Text | None = None


class Jsonl(Task):
    """Anybody's own questions."""

    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """The file `data`. Raises UsageError for a bad line, AudioError where all is missing."""
        if data is None:
            raise UsageError("the benchmark jsonl needs --data FILE.jsonl")
        index = data / "index.jsonl"
        return read("jsonl", index if index.is_file() else data)


def read(name: str, path: Path) -> Benchmark:
    """A benchmark `name` in this format."""
    lines, fingerprint = read_lines(path, Entry)
    placed = [_sample(path, place, line) for place, line in lines]
    cure = f"paths count from the folder of {path.name}"
    return Benchmark(name, check_samples(str(path), placed, cure), str(path), fingerprint)


def _sample(path: Path, place: str, line: Entry) -> tuple[str, Sample]:
    name = line.id or place.rpartition(":")[2]
    place = f"{place} ({line.id})" if line.id else place
    answer = line.answer
    if line.options:
        letters = dict(zip(ascii_uppercase, line.options, strict=False))
        answer = answer if answer in line.options else letters.get(answer, answer)
        check_options(place, line.options, answer)
    audio = inside(path.parent, line.audio, place)
    if line.key:
        check_key(place, line.key, audio)
    return place, Sample(
        id=name,
        audio=audio,
        question=line.question,
        options=line.options,
        answer=answer,
        key_span=line.key,
        transcript=line.transcript,
        group=line.group,
    )
