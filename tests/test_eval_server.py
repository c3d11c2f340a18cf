"""Runs whose prompts a server reads: what is refused before they begin, and on what they go on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from bench_data import write_benchmark
from conftest import make_audio

from speechprune_cli.bench.controls import Control
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.results import Results
from speechprune_cli.bench.runner import Runner
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.store import Run
from speechprune_cli.bench.tables import results_table
from speechprune_cli.errors import OutOfMemoryError, UsageError
from speechprune_cli.main import main
from speechprune_cli.pipeline import Session, load
from speechprune_cli.pruners import PRUNERS

NOBODY = "http://127.0.0.1:9"  # a port at which nothing listens
VLLM = {"engine": "vLLM", "prompts": "TokenIds", "options": "the likelihood of their tokens"}


def environment(server):
    model = {"revision": "1", "dtype": "float32"}
    return {"model": model, "quantize": "none", "recogniser": None, "server": server}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (VLLM | {"engine": "Ollama"}, "another server, its engine: vLLM, not Ollama"),
        (VLLM | {"prompts": "PlainText"}, "TokenIds, not PlainText"),
        (VLLM | {"options": "the letter answered"}, "not the letter answered"),
        (None, "its engine: vLLM, not None"),
    ],
)
def test_a_run_goes_on_with_such_a_server_as_it_was_begun_with(tmp_path, now, said):
    run = Run(tmp_path)
    run.write_environment(environment(VLLM))
    run.write_environment(environment(VLLM | {"version": "another"}))
    with pytest.raises(UsageError, match=said):
        run.write_environment(environment(now))


def test_options_that_a_letter_tells_apart_are_asked_in_all_orders(tiny_model_folder):
    model = load(str(tiny_model_folder), cache=False).model
    sample = Sample("a", None, "Why?", ("one", "two", "three"), "one")
    plan = Plan(benchmark="toy", methods=("random",), rates=(0.2,), permute_options=True)
    asked = {}
    for by_letter in (False, True):
        reader = SimpleNamespace(by_letter=by_letter)
        asked[by_letter] = len(Runner(Session(model, None, reader), plan)._orders(sample))
    listed = model.preset.defaults.list_choices
    assert asked == {False: 3 if listed else 1, True: 3}


def test_the_caption_says_that_letters_decided():
    control = Control("longest", 2, 1)
    found = Results("toy", "toy", "m", (), (control,), scoring="answered letter")
    assert "by the letter that the server answers" in results_table(found).notes[0]


def refused(capsys, *arguments):
    """The one line of an error."""
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


@pytest.mark.parametrize("address", ["http://:SECRET@host", "localhost:8000", "http://", "local"])
def test_an_address_that_is_none_begins_nothing(tmp_path, capsys, address):
    data, output = write_benchmark(tmp_path, "short"), tmp_path / "run"
    told = ("eval", "jsonl", "--data", data, "--output", output, "--server", address)
    err = refused(capsys, *told)
    assert "--server" in err
    assert "SECRET" not in err
    assert not output.exists()


def test_a_question_to_no_address_is_refused_before_the_recording_is_looked_for(capsys):
    err = refused(capsys, "ask", "nowhere.wav", "Why?", "--server", "localhost:8000")
    assert "--server localhost:8000" in err


def test_what_no_server_can_be_sent_is_refused_first(tmp_path, capsys, tiny_transcriber):
    data, output = write_benchmark(tmp_path, "short"), tmp_path / "run"
    told = ("eval", "jsonl", "--data", data, "--output", output, "--server", NOBODY)
    told += ("--model", tiny_transcriber)
    assert "--position original" in refused(capsys, *told, "--position", "original")
    assert "atome averages" in refused(capsys, *told, "--method", "atome")
    assert not output.exists()


def test_methods_that_average_are_known():
    merging = {name for name in PRUNERS.modules if PRUNERS.part(name).merges}
    assert merging == {"affinity", "atome", "fastadasp", "omniscope", "samap"}


@pytest.mark.parametrize("server", ["local", NOBODY])
def test_the_environment_says_nothing_to_what_needs_no_server(
    tmp_path, capsys, monkeypatch, tiny_model_folder, server
):
    data, output = write_benchmark(tmp_path, "short"), tmp_path / "run"
    told = ["--method", "random", "--rate", "0.5", "--max-new-tokens", "1", "--limit", "1"]
    begun = ["eval", "jsonl", "--data", data, "-o", output, "-m", tiny_model_folder, *told]
    assert main([*map(str, begun)]) == 0
    monkeypatch.setenv("SPEECHPRUNE_SERVER", server)
    assert main(["eval", "--resume", str(output)]) == 0
    if server == "local":
        again = ["eval", "jsonl", "--data", data, "-o", tmp_path / "2", "-m", tiny_model_folder]
        assert main([*map(str, [*again, *told])]) == 0
    capsys.readouterr()


def test_memory_that_runs_out_for_a_prompt_is_an_error_of_its_line(tiny_model_folder, monkeypatch):
    session = load(str(tiny_model_folder), cache=False)
    tokens = session.encode(make_audio(2))
    selection = session.prune(tokens, "Why?", keep=5)

    def full(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(session.model, "build_prompt", full)
    with pytest.raises(OutOfMemoryError, match="a prompt of 5 tokens"):
        session.build_prompt(tokens, selection, "Why?")
