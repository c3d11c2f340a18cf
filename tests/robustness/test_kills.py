"""Killed at random points and at every file operation: what is resumed ends as what was not."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from signal import SIGKILL, SIGXFSZ
from typing import Any

import pytest
from bench_data import answers, read_lines, write_benchmark
from package_index import tiny_part, write_preset
from stand_in import StandIn

from robustness.cases import Target, faults, set_up
from robustness.dying import Death
from robustness.test_bad_inputs import BUILD, show_presets
from robustness.workers import Job, run
from speechprune_cli.audio import load_audio, write_audio
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.transcripts import recogniser
from speechprune_cli.weights.stored import stored_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's"),
]
KILLS = 30  # at random points, of each work
FEW, EXAMPLES = 5, 5  # random points and file operations where not the whole is asked for
RESUMED_TOO = 0.3  # share of them where the resumed one is killed as well
TOOK = re.compile(rb'"took": [\d.]+|took [\d.]+ s a sample')
MEETING = Path(recogniser.__file__).parents[1] / "examples/meeting.ogg"


@dataclass(frozen=True)
class Work:
    """What is killed, how it is gone on with, and what it has to come to."""

    target: Target
    resumed: Callable[[Job], Job]
    result: Callable[[Path], Any]  # of its box

    def whole(self, box: Path) -> tuple[Any, float, int]:
        """Its result, seconds and file operations where nothing befalls it."""
        job = set_up(self.target, box)
        outcome = run(replace(job, death=Death(box)))
        assert outcome.code == 0, outcome.err
        return self.result(box), outcome.seconds, outcome.operations

    def after(self, box: Path, deaths: Sequence[dict[str, Any]]) -> tuple[Any, int]:
        """Its result where it is killed in these ways, then left alone; how often it was."""
        job, killed = set_up(self.target, box), 0
        for death in deaths:
            outcome = run(replace(job, **death))
            assert outcome.code in (0, -SIGKILL, -SIGXFSZ), outcome.err
            killed += outcome.code != 0
            job = self.resumed(job)
        outcome = run(job)
        assert not faults(outcome, {0}, ()), (deaths, outcome.err)
        return self.result(box), killed


@pytest.fixture
def survives(campaign, tmp_path) -> Callable[..., None]:
    """Kill a work in both ways and compare."""

    def kill(name: str, work: Work, *, few: int = FEW, every: bool = True) -> None:
        kills = KILLS if campaign.whole else few
        expected, seconds, operations = work.whole(tmp_path / "whole")
        random = Random(f"{campaign.seed}/{name}")
        ways = [*_at_random(random, seconds, kills)]
        if every:
            ways += _at_operations(random, tmp_path, operations, campaign.whole)
        killed: list[int] = []
        wrong = []
        try:
            for number, deaths in enumerate(ways):
                box = tmp_path / str(number)
                found, times = work.after(box, [_placed(death, box) for death in deaths])
                killed.append(times)
                if found == expected:
                    shutil.rmtree(box)
                else:
                    wrong.append(f"{box}: {deaths}")
        finally:
            points = f"{kills} random points of {seconds:.1f} s, else {operations} operations"
            campaign.lines.append(
                f"{name}: {len(killed)} of {len(ways)} runs, {sum(killed)} kills ({points} and "
                f"lengths of files), {len(wrong)} ended otherwise than one that was left alone"
            )
        assert not wrong, "\n".join(wrong)

    return kill


def _at_random(random: Random, seconds: float, kills: int) -> Iterator[list[dict[str, Any]]]:
    for _ in range(kills):
        twice = 2 if random.random() < RESUMED_TOO else 1
        yield [{"kill_after": random.uniform(0, seconds)} for _ in range(twice)]


def _at_operations(
    random: Random, folder: Path, operations: int, whole: bool
) -> list[list[dict[str, Any]]]:
    """At each of them, and where a file reaches a length; or at some examples."""
    at = range(operations)
    chosen = list(at) if whole else sorted(random.sample(at, min(EXAMPLES, operations)))
    lengths = [int(10 ** random.uniform(0, 5)) for _ in range(KILLS if whole else 2)]
    deaths = [Death(folder, each) for each in chosen]
    deaths += [Death(folder, None, each) for each in lengths]
    return [[{"death": death}] for death in deaths]


def _placed(death: dict[str, Any], box: Path) -> dict[str, Any]:
    return {name: replace(it, folder=box) if name == "death" else it for name, it in death.items()}


def _same(job: Job) -> Job:
    return job


def test_eval(survives, tiny_model_folder, tmp_path):
    (tmp_path / "data").mkdir()
    write_benchmark(tmp_path / "data", "short", "two", "öffen")
    options = ["-m", str(tiny_model_folder), "--max-new-tokens", "3", "--method", "uniform"]
    command = ["eval", "jsonl", "--data", "d/index.jsonl", "-o", "r", "--rate", "0.4", *options]
    target = Target("eval", command, {"work/d": tmp_path / "data"}, "", {0})
    survives("eval", Work(target, _resumed_run, run_told))


def _resumed_run(job: Job) -> Job:
    begun = (job.folder / "r" / "run.json").exists()
    return replace(job, arguments=["eval", "--resume", "r"]) if begun else job


def run_told(box: Path) -> Any:
    """All but times; files that are not a run's are seen."""
    run = box / "work/r"
    results = json.loads((run / "results.json").read_text())
    names = sorted(path.name for path in run.iterdir())
    return answers(read_lines(run)), _timeless(results), names


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if not key.endswith("_seconds")}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def test_build(survives):
    target = Target("build", ["build", "b", *BUILD], {}, "", {0})
    survives("build", Work(target, _same, partial(files_told, "work/b")))


def files_told(folder: str, box: Path) -> dict[str, bytes]:
    """All that there are, but what says how long it took."""
    found = (path for path in (box / folder).rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(box)): TOOK.sub(b"", path.read_bytes()) for path in found}


def test_fetch(survives, served, tmp_path):
    write_preset(tmp_path / "presets", "alone", tiny_part())
    command = ["models", "get", "alone", "--from", "index", "--quiet"]
    prepare = partial(show_presets, tmp_path / "presets")
    target = Target("get", command, {}, "", {0}, prepare=prepare)
    survives("fetch", Work(target, _same, partial(files_told, "cache/stored")))


class Writing(recogniser.Recogniser):
    """Writes two words a second."""

    def transcribe(self, samples, language=None, on_progress=lambda _: None, done=()):
        yield from StandIn().transcribe(samples, language, on_progress, done)


def write_quickly() -> None:
    recogniser.Recogniser = Writing


def test_transcription(survives, tiny_transcriber, recording):
    """As it is kept, by a recogniser that needs no time."""
    command = ["ask", "a.wav", "Who?", "-m", str(tiny_transcriber), "--transcript", "t.json"]
    files = {"work/a.wav": recording}
    target = Target("ask", command, files, "", {0}, prepare=write_quickly)
    survives("transcription", Work(target, _same, _transcript))


def _transcript(box: Path) -> tuple[Any, list[str]]:
    kept = [path.suffix for path in (box / "cache/transcripts").iterdir()]
    told = json.loads((box / "work/t.json").read_text())
    return {**told, "seconds": 0}, kept


def test_transcription_by_whisper(survives, campaign, tiny_transcriber, request, tmp_path):
    """Whisper base itself, on 45 s of speech: two windows and the rest."""
    pytest.importorskip("faster_whisper", reason="recognising is an extra")
    whisper = campaign.whisper
    if whisper is None:
        request.getfixturevalue("mini")
        whisper = stored_folder("whisper-base")
    preset = tiny_transcriber.read_text().splitlines()
    preset[1] = f"recogniser: {{source: {whisper}}}"
    write_audio(tmp_path / "a.wav", load_audio(MEETING).samples[: 45 * SAMPLE_RATE], SAMPLE_RATE)
    files = {"work/p.yaml": "\n".join(preset).encode()}
    files["work/a.wav"] = (tmp_path / "a.wav").read_bytes()
    command = ["ask", "a.wav", "Who?", "-m", "p.yaml", "--transcript", "t.json", "--keep", "5"]
    work = Work(Target("ask", command, files, "", {0}), _same, _transcript)
    survives("whisper", work, few=2, every=False)
