"""Jobs side by side: all of their lines, within bounds, and an end where one fails."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechprune_cli.bench import ahead
from speechprune_cli.bench.ahead import Ahead
from speechprune_cli.bench.jobs import RecordingJob
from speechprune_cli.bench.line import Line
from speechprune_cli.errors import ServerError
from speechprune_cli.flow import Audio

JOBS = 12


class Watching:
    """Answers jobs slowly, and sees how many it is at."""

    def __init__(self, at_once: int = 4) -> None:
        self.lock, self.now, self.most, self.closed = threading.Lock(), 0, 0, False
        self.at_once = at_once
        shape = SimpleNamespace(audio_tokens=lambda seconds: round(seconds * 25))
        self.model = SimpleNamespace(shape=shape, hidden_size=4, dtype=torch.float32)
        self.reader = self

    def close(self) -> None:
        self.closed = True

    def answer(self, job):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        (recording,) = job
        for number in range(3):
            time.sleep(0.002)
            if recording.audio.source == "5, which fails" and number == 2:
                raise ServerError("gone")
            yield Line(sample=recording.audio.source, condition=str(number), method="", status="ok")
        with self.lock:
            self.now -= 1


def jobs(fails: bool = False):
    for number in range(JOBS):
        name = "5, which fails" if fails and number == 5 else str(number)
        samples = np.zeros(16_000, np.float32)
        yield (RecordingJob(Audio(samples, name, name, 16_000, 1, 1.0), (), frozenset()),)


def test_all_lines_of_all_jobs():
    watching = Watching()
    lines = list(Ahead(watching, watching.answer).answer(jobs()))
    wanted = {(str(job), str(number)) for job in range(JOBS) for number in range(3)}
    assert {(line.sample, line.condition) for line in lines} == wanted
    assert len(lines) == len(wanted)
    assert 1 < watching.most <= 4
    assert not watching.closed


def test_large_recordings_go_one_by_one(monkeypatch):
    monkeypatch.setattr(ahead, "MOST_BYTES", 100_000)  # of 16,000 samples, 64,000 bytes each
    watching = Watching()
    assert len(list(Ahead(watching, watching.answer).answer(jobs()))) == 3 * JOBS
    assert watching.most == 1


def test_what_one_raises_ends_all():
    watching, lines = Watching(), []
    with pytest.raises(ServerError, match="gone"):
        lines.extend(Ahead(watching, watching.answer).answer(jobs(fails=True)))
    assert watching.closed


def test_who_takes_no_more_lines_leaves_nothing_running():
    watching = Watching()
    found = Ahead(watching, watching.answer).answer(jobs())
    next(found)
    found.close()
    assert watching.closed
    assert not [each for each in threading.enumerate() if each.name.startswith("job")]


def test_lines_come_before_later_jobs_are_decoded():
    """Else a kill loses what was answered, and a server that is gone is noticed late."""
    watching, decoded = Watching(at_once=JOBS), []

    def slowly():
        for job in jobs():
            decoded.append(job)
            time.sleep(0.02)
            yield job

    next(found := Ahead(watching, watching.answer).answer(slowly()))
    assert len(decoded) < JOBS
    found.close()
