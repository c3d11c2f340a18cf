"""Spans to be found in recordings of up to 30 minutes (--data FOLDER).

LAT-Bench's temporal audio grounding (TAG), as published: a line of `task/bench-EN-TAG.jsonl` or
`task/bench-CN-TAG.jsonl` holds `messages`, what is looked for and then the span that it is in, such
as `[02:10-02:25]` (minutes and seconds), and `audios`, which names the recording. Nothing is asked:
what counts is whether the span is kept. CC-BY-NC-4.0.

The sound is not published. It lies in `audio` in the same folder, each file named like the id.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.bench.tasks._checks import Placed, check_key, check_samples
from speechprune_cli.bench.tasks._lines import Record, Text, inside, read_lines
from speechprune_cli.bench.tasks.base import Task
from speechprune_cli.errors import UsageError

PAGE = "https://huggingface.co/datasets/mcshao/LAT-Bench"
TASKS = "task/bench-*-TAG.jsonl"
SPAN = re.compile(r"(?<![\d:])(\d+):(\d\d)\s*-\s*(\d+):(\d\d)(?![\d:])")
MARKER = "<audio>"  # where the sound stands in a message
TREE = (
    f"put task and meta of {PAGE} into a folder, the recordings from the urls in meta into audio "
    "in it, each named like its id, such as audio/ID.wav, and name the folder with --data"
)


class Message(Record):
    """What is looked for, or the span that it is in."""

    content: Text


class Grounding(Record):
    """What is read of a published line."""

    messages: Annotated[tuple[Message, ...], Field(min_length=2)]
    audios: Annotated[tuple[Text, ...], Field(min_length=1)]


class LatBench(Task):
    """LAT-Bench, temporal audio grounding, in the languages that are there."""

    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """Raises UsageError for a missing or bad index, AudioError where all sound is missing."""
        if data is None:
            raise UsageError(f"lat-bench is not part of this package: {TREE}")
        indices = sorted(data.glob(TASKS))
        if not indices:
            raise UsageError(f"{data}: there is no {TASKS}: {TREE}")
        files = _recordings(data)
        placed, fingerprint = list[Placed](), hashlib.sha256()
        for path in indices:
            lines, found = read_lines(path, Grounding)
            fingerprint.update(found.encode())
            placed += [_sample(data, files, path, place, line) for place, line in lines]
        samples = check_samples(str(data), placed, TREE)
        return Benchmark("lat-bench", samples, str(data), fingerprint.hexdigest())


def _recordings(folder: Path) -> dict[str, str]:
    """Names of the files by id. Raises UsageError where two have the same id."""
    files: dict[str, str] = {}
    for path in sorted(folder.glob("audio/*")):
        if path.stem in files:
            both = f"{files[path.stem]} and {path.name}"
            raise UsageError(f"{path.parent}: {both} have the same id: keep one of them")
        files[path.stem] = path.name
    return files


def _sample(folder: Path, files: dict[str, str], path: Path, place: str, line: Grounding) -> Placed:
    language = path.name.split("-")[1]
    name = PurePosixPath(line.audios[0]).name
    file = files.get(name) or files.get(PurePosixPath(name).stem, name)
    audio = inside(folder, f"audio/{file}", f"{place}: audios.0")
    key = _span(line.messages[1].content, f"{place}: messages.1.content")
    check_key(f"{place}: messages.1.content", key, audio)
    return place, Sample(
        id=f"{language}-{place.rpartition(':')[2]}",
        audio=audio,
        question=line.messages[0].content.replace(MARKER, "").strip(),
        options=(),
        answer="",
        key_span=key,
        group=language,
    )


def _span(text: str, place: str) -> tuple[float, float]:
    """Seconds. Of several spans the first, as in the benchmark's own evaluation."""
    found = SPAN.search(text)
    if not found:
        raise UsageError(f"{place} is {text!r}: give a span such as [02:10-02:25]")
    minutes, seconds, last_minutes, last_seconds = map(int, found.groups())
    return 60.0 * minutes + seconds, 60.0 * last_minutes + last_seconds
