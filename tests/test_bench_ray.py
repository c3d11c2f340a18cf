"""Workers of Ray, for real: the same lines as from one process, whatever dies on the way."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from conftest import make_audio

from speechprune_cli.audio import write_audio
from speechprune_cli.bench import tasks
from speechprune_cli.bench.jobs import RecordingJob, jobs
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.ray_workers import ray_workers
from speechprune_cli.bench.runner import Runner
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main
from speechprune_cli.pipeline import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is an extra"),
]

ARGUMENTS = {"device": "cpu", "dtype": "float32", "offline": True, "cache": False}


@pytest.fixture(scope="module")
def plan(tiny_model_folder, tmp_path_factory) -> Plan:
    """Six short recordings, one of them broken, under four conditions."""
    folder = tmp_path_factory.mktemp("recordings")
    lines = []
    for number in range(6):
        name = f"{number}.wav"
        write_audio(folder / name, make_audio(2 + number, number).samples, SAMPLE_RATE)
        question = {"question": "When is it?", "options": ["Friday", "Monday"], "answer": "A"}
        lines.append({"id": f"s{number}", "audio": name, **question})
    (folder / "3.wav").write_bytes(b"no sound")
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Plan(
        benchmark="jsonl",
        data=str(path),
        model=str(tiny_model_folder),
        device="cpu",
        dtype="float32",
        offline=True,
        methods=("speechprune",),
        rates=(0.4,),
        permute_options=True,
        max_new_tokens=8,
    )


@pytest.fixture(scope="module")
def work(plan) -> list[tuple[RecordingJob, ...]]:
    """All jobs of the plan."""
    samples = tasks.load_task("jsonl", Path(plan.data), offline=True).samples
    return list(jobs(samples, plan, set()))


@pytest.fixture(scope="module")
def alone(plan, work) -> list[str]:
    """The lines of a single run, on one thread as each worker: sums and near ties depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return comparable(Runner(load(plan.model, **ARGUMENTS), plan).answer(work))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def workers(plan):
    """Two workers on a Ray of their own."""
    with ray_workers(plan, ARGUMENTS, 2, None, None) as two:
        yield two


def comparable(lines) -> list[str]:
    """Lines without timings and beyond the last digits, in an order of their own."""
    return sorted(json.dumps(rounded(asdict(line)), sort_keys=True) for line in lines)


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items() if not key.endswith("_seconds")}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def test_what_cannot_be_asked_is_said_before(plan, workers, work):
    samples = [sample for job in work for recording in job for sample in recording.samples]
    assert workers.doubts(samples) == []
    odd = replace(samples[1], question="When <|im_end|> is it?")
    (told,) = workers.doubts([samples[0], odd])
    assert told.startswith("1 questions cannot be asked, as s1: ")


def test_a_bad_address_is_one_line(plan, tmp_path, capfd):
    run = ["--model", plan.model, "--data", plan.data, "-o", str(tmp_path / "run")]
    for address in ("127.0.0.1:1", "nonsense"):
        code = main(["eval", "jsonl", *run, "--device", "cpu", "--ray", address])
        out, err = capfd.readouterr()
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].startswith(f"error: --ray {address}: cannot join")
        assert len([line for line in err.splitlines() if "run folder" not in line]) == 1
        run[-1] = str(tmp_path / "another")


def test_two_workers_make_the_lines_of_one(workers, work, alone):
    assert comparable(workers.answer(iter(work))) == alone
    environment = workers.environment()
    assert environment["model"]["device"] == "cpu"


def test_recordings_are_decoded_when_a_worker_can_take_them(workers, work):
    taken = []
    lines = workers.answer(taken.append(job) or job for job in work * 2)
    next(lines)
    assert len(taken) <= 4
    list(lines)
    assert len(taken) == 12


def test_what_a_killed_worker_had_to_do_is_done(workers, work, alone, capfd):
    import ray

    victim = workers._handles[0].actor
    process = ray.get(victim.__ray_call__.remote(lambda _: os.getpid()))
    lines = workers.answer(work * 2)
    made = [next(lines)]
    assert workers._handles[0].pending
    os.kill(process, signal.SIGKILL)
    made.extend(lines)
    assert comparable(made) == sorted(alone * 2)
    assert workers._handles[0].actor != victim
    assert capfd.readouterr() == ("", "")


class Poison:
    """Ends whatever process unpickles it."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_job_that_kills_three_workers_becomes_errors(workers, work, alone):
    poison = (replace(work[1][0], audio=Poison()),)
    lines = list(workers.answer([work[0], poison, *work[2:]]))
    dead = [line for line in lines if line.sample == "s1"]
    assert {line.status for line in dead} == {"error"}
    assert "3 workers died of it" in dead[0].error
    assert len(lines) == len(alone)
    others = [line for line in lines if line.sample != "s1"]
    assert comparable(others) == [line for line in alone if '"sample": "s1"' not in line]


def collect_all(workers) -> None:
    """What every worker has done: another may still be starting."""
    for _ in workers._handles:
        list(workers._collect())


def test_a_model_error_of_a_worker_arrives_as_itself(workers, plan):
    handle = workers._handles[0]
    gone = {"model": f"{plan.model}/gone", **ARGUMENTS}
    handle.pending.append((handle.actor.start.remote(plan, gone, 1), None))
    with pytest.raises(ModelError, match="no model folder") as error:
        collect_all(workers)
    assert type(error.value) is ModelError
