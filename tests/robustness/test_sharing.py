"""Four processes at once on one cache or one folder: right results, or one clear refusal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bench_data import write_benchmark
from package_index import tiny_part, write_preset

from robustness.cases import faults, new_box
from robustness.test_bad_inputs import BUILD, show_presets
from robustness.test_kills import files_told, run_told, write_quickly
from robustness.workers import Job, Outcome, run, run_together
from speechprune_cli.errors import UsageError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="forks are POSIX's"),
]
PROCESSES = 4
QUESTIONS = ("When is the report due?", "Who?", "Where is the red house?", "What is not said?")


def together(campaign, what: str, jobs: Sequence[Job]) -> list[Outcome]:
    """What became of all; each is done or refused with one line."""
    outcomes = run_together(jobs)
    for outcome in outcomes:
        assert not faults(outcome, {0, UsageError.exit_code}, ()), outcome.err
    done = sum(outcome.code == 0 for outcome in outcomes)
    line = f"{what}: {done} of {len(jobs)} processes at once done, {len(jobs) - done} refused"
    campaign.lines.append(line)
    return outcomes


@pytest.fixture
def times(campaign) -> range:
    """How often, as every time is another race."""
    return range(3 if campaign.whole else 1)


def test_one_token_cache(campaign, tiny_model_folder, recording, tmp_path, times):
    for each in times:
        _share_tokens(campaign, tiny_model_folder, recording, tmp_path / str(each))


def _share_tokens(campaign, tiny_model_folder, recording, tmp_path):
    alone, shared = (_asking(tmp_path / name, tiny_model_folder, recording) for name in "ab")
    outcomes = together(campaign, "token cache", shared)
    assert [each.out for each in outcomes] == [run(job).out for job in alone]
    assert len(list((tmp_path / "b/cache/tokens").iterdir())) == 1


def _asking(box: Path, model: Path, recording: bytes) -> list[Job]:
    job = new_box(box, {"work/a.wav": recording})
    options = ("-m", str(model), "--max-new-tokens", "5", "--quiet")
    return [replace(job, arguments=("ask", "a.wav", each, *options)) for each in QUESTIONS]


def test_one_cache_of_transcripts(campaign, tiny_transcriber, recording, tmp_path):
    job = new_box(tmp_path / "box", {"work/a.wav": recording})
    job = replace(job, prepare=write_quickly)
    options = ("-m", str(tiny_transcriber), "--show", "--json")
    shared = [replace(job, arguments=("ask", "a.wav", "Who?", *options))] * PROCESSES
    outcomes = together(campaign, "transcripts", shared)
    assert {each.code for each in outcomes} == {0}
    kept = [path.suffix for path in (tmp_path / "box/cache/transcripts").iterdir()]
    assert kept == [".json"]


def shared_folder(
    campaign, what: str, job: Job, tell: Callable[[Path], Any], again: Sequence[str]
) -> Any:
    """What a folder holds that four begin at once, and that somebody goes on with then."""
    outcomes = together(campaign, what, [job] * PROCESSES)
    assert any(outcome.code == 0 for outcome in outcomes), [each.err for each in outcomes]
    assert run(replace(job, arguments=again)).code == 0
    return tell(job.folder.parent)


def test_one_run_folder(campaign, tiny_model_folder, tmp_path, times):
    for each in times:
        _share_run(campaign, tiny_model_folder, tmp_path / str(each))


def _share_run(campaign, tiny_model_folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir(parents=True)
    write_benchmark(data, "short", "two", "öffen")
    command = ("eval", "jsonl", "--data", "d/index.jsonl", "-o", "r", "--rate", "0.4")
    command += ("-m", str(tiny_model_folder), "--max-new-tokens", "3", "--method", "uniform")
    alone, shared = (
        replace(new_box(tmp_path / name, {"work/d": data}), arguments=command) for name in "ab"
    )
    assert run(alone).code == 0
    resume = ("eval", "--resume", "r")
    found = shared_folder(campaign, "run folder", shared, run_told, resume)
    assert found == run_told(tmp_path / "a")
    lines = (tmp_path / "b/work/r/lines.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "b/work/r/lines.jsonl").write_bytes(b"".join(lines[:4]))
    again = replace(shared, arguments=resume)
    assert shared_folder(campaign, "resumed run", again, run_told, resume) == found


def test_one_build(campaign, tmp_path):
    command, files = ("build", "b", *BUILD), {}
    told = partial(files_told, "work/b")
    alone, shared = (replace(new_box(tmp_path / name, files), arguments=command) for name in "ab")
    assert run(alone).code == 0
    assert shared_folder(campaign, "build", shared, told, command) == told(tmp_path / "a")


def test_one_store(campaign, served, tmp_path):
    write_preset(tmp_path / "presets", "alone", tiny_part())
    command = ("models", "get", "alone", "--from", "index", "--quiet")
    prepare = partial(show_presets, tmp_path / "presets")
    told = partial(files_told, "cache/stored")
    alone, shared = (
        replace(new_box(tmp_path / name, {}), arguments=command, prepare=prepare) for name in "ab"
    )
    assert run(alone).code == 0
    assert shared_folder(campaign, "fetch", shared, told, command) == told(tmp_path / "a")
