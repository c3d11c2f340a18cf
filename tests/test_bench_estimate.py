"""How long a run is said to take."""

from __future__ import annotations

import pytest
from bench_data import RECORDS, SECONDS, write_benchmark
from test_backend import load
from test_bench_runner import make_plan
from test_cli_eval import run

from speechprune_cli.bench.estimate import Pace
from speechprune_cli.bench.tasks import load_task


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_benchmark(tmp_path_factory.mktemp("estimate"))


@pytest.fixture(scope="module")
def lm(tiny_model_folder):
    return load(tiny_model_folder)


def expected(pace, lm, index, **changes):
    plan = make_plan(**changes)
    samples = load_task("jsonl", index, offline=True).samples
    todo = [(sample, condition) for sample in samples for condition in plan.conditions]
    return pace.seconds(plan, lm.shape, todo)


def test_every_prompt_counts_once_and_once_for_each_rotation(lm, index):
    prompts, conditions = Pace(prompt=1, token=0, written=0), 4
    assert expected(prompts, lm, index) == conditions * len(RECORDS)
    orders = sum(len(record.get("options", [None])) for record in RECORDS)
    assert expected(prompts, lm, index, permute_options=True) == conditions * orders


def test_kept_tokens_count_as_the_conditions_keep_them(lm, index):
    """Text is the same under every condition, so the difference is the recordings' tokens."""
    tokens = Pace(prompt=0, token=1, written=0)
    half, all_but_none = (expected(tokens, lm, index, rates=(rate,)) for rate in (0.5, 0.0))
    whole = [lm.shape.audio_tokens(SECONDS[record["audio"]]) for record in RECORDS]
    budgets = [min(each, lm.input_tokens) for each in whole]
    assert all_but_none - half == sum(each - round(each / 2) for each in budgets)


def test_only_free_answers_are_written(lm, index):
    written = Pace(prompt=0, token=0, written=1)
    free = sum("options" not in record for record in RECORDS)
    assert expected(written, lm, index, max_new_tokens=7) == 4 * free * 7
    every = expected(written, lm, index, max_new_tokens=7, scoring="generate")
    assert every == 4 * len(RECORDS) * 7


def test_the_pace_is_timed_on_the_model(lm):
    for rows in (1, 3):
        pace = Pace.of(lm, rows)
        assert pace.prompt >= 0
        assert pace.token >= 0
        assert pace.written > 0


def test_it_is_said_before_the_run_and_for_what_is_left(
    index, tiny_model_folder, tmp_path, monkeypatch
):
    """Of a model that is not as tiny as this one."""
    monkeypatch.setattr(Pace, "of", lambda *_: Pace(prompt=60, token=0, written=0))
    asked = ["--model", tiny_model_folder, "--device", "cpu", "--method", "uniform"]
    code, _, err = run("jsonl", "--data", index, *asked, "--output", tmp_path / "run")
    assert code == 0
    count = 4 * len(RECORDS)
    assert f"{count} answers will take about {count} min, and what encoding takes" in err
    assert f"goes on with --resume {tmp_path / 'run'}" in err
    code, _, err = run("--resume", tmp_path / "run")
    assert (code, err) == (0, ""), "nothing is left to do"
