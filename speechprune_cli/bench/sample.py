"""What a benchmark is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import inf
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One question about one recording."""

    id: str
    audio: Path
    question: str
    options: tuple[str, ...]  # their texts, without letters; none where the question is open
    answer: str  # the text of the right option, or the open answer; empty: nothing is asked
    key_span: tuple[float, float] | None = None  # start and end of what answers, in seconds
    transcript: str | None = None
    group: str | None = None  # a kind of recording, such as `lecture`


@dataclass(frozen=True)
class Benchmark:
    """A loaded benchmark."""

    name: str
    samples: tuple[Sample, ...]
    source: str  # where it came from: a path, or a Hub id with its commit
    fingerprint: str  # SHA-256 of its index, so that a run can be told from one on other data
    min_seconds: float = 0.0  # what recordings must be longer than, unless `--min-seconds` says so
    published: Mapping[str, float] = field(default_factory=dict)  # as in `Task.published`


@cache
def _seconds(path: Path, modified: int) -> float:
    from speechprune_cli.audio import recording_seconds

    return recording_seconds(path)


def length_of(path: Path) -> float:
    """Seconds of a recording as it will be read; infinite where it cannot be."""
    try:
        return _seconds(path, path.stat().st_mtime_ns)
    except OSError:
        return inf
