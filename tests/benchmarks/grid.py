"""Prints what sharing the encoding saves: a grid of conditions in one run, and one by one.

python tests/benchmarks/grid.py --recordings 4
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import replace
from itertools import product

import torch

from speechprune_cli import load
from speechprune_cli.bench import tasks
from speechprune_cli.bench.conditions import REFERENCES, Condition
from speechprune_cli.bench.jobs import RecordingJob, jobs
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.runner import Runner

METHODS = ("random", "crop", "phase1", "phase2", "speechprune", "uniform")
PLAN = Plan(benchmark="spiral-nano", methods=METHODS, rates=(0.2, 0.4, 0.6, 0.8))
"""The paper's grid."""


def main() -> None:
    """Time both ways on the first recordings of spiral-nano; nothing is cached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=4)
    count = parser.parse_args().recordings
    samples = tasks.load_task("spiral-nano", None, offline=True).samples
    runner = Runner(load("nano", cache=False), PLAN)
    recordings = [job[0] for job in jobs(samples, runner.plan, set())][:count]
    list(runner.answer_job([only(recordings[0], REFERENCES[0])]))  # warm up
    together = seconds(runner, recordings)
    alone = [
        seconds(runner, [only(recording, condition) for recording in recordings])
        for condition in runner.plan.conditions
    ]
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{count} recordings, {sum(len(r.samples) for r in recordings)} questions, ", end="")
    print(f"{len(runner.plan.conditions)} conditions")
    print(f"one run of the grid      {together:7.1f} s")
    print(f"every condition by itself{sum(alone):7.1f} s = {sum(alone) / together:.1f} x")


def only(recording: RecordingJob, condition: Condition) -> RecordingJob:
    """The recording with nothing else to be asked."""
    pairs = product((sample.id for sample in recording.samples), [condition.name])
    return replace(recording, todo=frozenset(pairs))


def seconds(runner: Runner, recordings: list[RecordingJob]) -> float:
    """Time to answer all that is to be asked."""
    begun = time.perf_counter()
    for recording in recordings:
        for line in runner.answer_job([recording]):
            if not line.answered:
                raise SystemExit(line.error)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
