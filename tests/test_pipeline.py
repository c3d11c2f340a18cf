"""The Python API, end to end on a tiny model: encode once, prune and ask at will."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import make_audio

import speechprune_cli
from speechprune_cli import load
from speechprune_cli.config import Defaults
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import TRANSCRIPT
from speechprune_cli.methods import Amount, MethodSpec, pruning_size
from speechprune_cli.pruners import PRUNERS

QUESTION = "When is the report due?"


@pytest.fixture(scope="module")
def session(tiny_model_folder):
    return load(str(tiny_model_folder), device="cpu", cache=False)


@pytest.fixture(scope="module")
def tokens(session):
    return session.encode(make_audio(40.0))


def test_ask_is_the_four_steps_in_one(session, tokens):
    result = session.ask(make_audio(40.0), QUESTION, rate=0.8, max_new_tokens=8)
    selection = session.prune(tokens, QUESTION, rate=0.8)
    answer = session.answer(tokens, selection, QUESTION, max_new_tokens=8)
    assert torch.equal(result.tokens.embeds, tokens.embeds)
    assert torch.equal(result.selection.kept, selection.kept)
    assert len(selection.kept) == 150
    assert result.prompt.audio_tokens == 150
    assert result.answer.text == answer.text


@pytest.mark.parametrize(
    "method", [name for name in PRUNERS.names if TRANSCRIPT not in PRUNERS.part(name).requires]
)
@pytest.mark.parametrize("position", ["repacked", "original"])
def test_every_method_answers(session, tokens, method, position):
    selection = session.prune(tokens, QUESTION, method=method, rate=0.6)
    answer = session.answer(tokens, selection, QUESTION, position=position, max_new_tokens=4)
    assert selection.method == method
    assert answer.new_tokens <= 4
    assert answer.probabilities is None


def test_choices_are_answered_by_likelihood(session, tokens):
    choices = ("on Friday", "in the red house")
    result = session.ask(make_audio(3.0), QUESTION, choices=choices)
    assert result.answer.text in choices
    assert list(result.answer.probabilities) == list(choices)
    assert sum(result.answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("method", "by_itself"),
    [("phase1", False), ("cue", True), ("cue:choices=false", False), ("omniscope", True)],
)
def test_choices_are_matched_where_asked_for_or_where_the_method_does(
    session, tokens, method, by_itself
):
    spec = MethodSpec.parse(method, Amount.keeping(100))

    def scores(**options):
        return session.select(tokens, QUESTION, spec, **options).scores

    alone, choices = scores(), ("red", "blue")
    both = scores(choices=choices, query="question+choices")
    assert not torch.equal(both, alone)
    assert torch.equal(scores(choices=choices), both if by_itself else alone)
    assert torch.equal(scores(choices=choices, query="question"), alone)


def test_the_preset_decides_whether_choices_are_listed(tiny_model_folder, tokens):
    session = load(str(tiny_model_folder), device="cpu", cache=False)
    selection = session.prune(tokens, QUESTION)
    listed = session.build_prompt(tokens, selection, QUESTION, choices=("noon", "dusk"))
    defaults = session.model.preset.defaults.model_copy(update={"list_choices": False})
    session.model.preset = session.model.preset.model_copy(update={"defaults": defaults})
    bare = session.build_prompt(tokens, selection, QUESTION, choices=("noon", "dusk"))
    assert "A. noon" in listed.text
    assert "A. noon" not in bare.text


def test_answers_stream(session, tokens):
    pieces = []
    selection = session.prune(tokens, QUESTION, rate=0.8)
    answer = session.answer(tokens, selection, QUESTION, max_new_tokens=8, on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text


def test_a_budget_of_all_lets_phase_two_see_everything(session, tokens):
    selection = session.prune(tokens, QUESTION, budget="all", rate=0.5)
    assert (selection.phase1_budget, len(selection.kept)) == (1000, 500)


@pytest.mark.parametrize("budget", ["all", 40])
def test_original_is_the_first_window_whatever_the_budget(session, tokens, budget):
    selection = session.prune(tokens, QUESTION, method="original", budget=budget)
    assert selection.kept.tolist() == list(range(750))


def test_settings_reach_the_method(session, tokens):
    with pytest.raises(UsageError, match="colour"):
        session.prune(tokens, QUESTION, colour="red")
    first, second = (
        session.prune(tokens, QUESTION, method="random", keep=50, seed=seed) for seed in (1, 2)
    )
    assert not torch.equal(first.kept, second.kept)


@pytest.mark.parametrize(
    ("budget", "total", "expected"), [(None, 2250, 750), (None, 300, 300), ("all", 2250, 2250)]
)
def test_phase1_budget(budget, total, expected):
    assert pruning_size(total, 750, budget, Amount(rate=0.5)).budget == expected


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.0, 750), (0.2, 600), (0.4, 450), (0.6, 300), (0.8, 150), (0.9999, 1)]
)
def test_rates_of_the_paper(rate, expected):
    size = pruning_size(2250, 750, None, Amount(rate=rate))
    assert (size.budget, size.kept) == (750, expected)


@pytest.mark.parametrize(
    ("keep", "total", "expected"),
    [("20%", 2250, (750, 450)), ("50%", 2250, (1125, 1125)), ("100%", 40, (40, 40)),
     (150, 2250, (750, 150)), ("0.01%", 300, (300, 1)), ("900", 2250, (900, 900))],
)  # fmt: skip
def test_amounts_of_the_whole(keep, total, expected):
    """B1 is the model's own input length, but never less than what is kept."""
    size = pruning_size(total, 750, None, Amount.keeping(keep))
    assert (size.budget, size.kept) == expected


def test_a_share_of_the_recording_is_what_stays(session, tokens):
    assert len(session.prune(tokens, QUESTION, keep="20%").kept) == 200
    assert len(session.prune(tokens, QUESTION, method="speechprune", keep="80%").kept) == 800


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_a_rate_outside_the_unit_interval(session, tokens, rate):
    with pytest.raises(UsageError, match="outside"):
        session.prune(tokens, QUESTION, rate=rate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.5, "keep": 10}, "not both"),
        ({"keep": 0}, "keep 0: at least one"),
        ({"keep": "a fifth"}, "keep a fifth: give a share of the recording, 20%, or tokens"),
        ({"keep": "0%"}, "keep 0%"),
        ({"keep": "101%"}, "keep 101%"),
        ({"keep": 800, "budget": 750, "method": "speechprune"}, "800"),
        ({"budget": 0}, "budget is 0"),
        ({"budget": "most"}, "budget is 'most'"),
        ({"method": "magic"}, "magic"),
        ({"query": "answer"}, "unknown query 'answer'"),
        ({"query": ""}, "unknown query ''"),
    ],
)
def test_what_prune_refuses(session, tokens, options, message):
    with pytest.raises(UsageError, match=message):
        session.prune(tokens, QUESTION, **options)


def test_more_tokens_than_there_are_is_all_of_them(session, tokens):
    assert len(session.prune(tokens, QUESTION, method="uniform", keep=2000).kept) == len(tokens)


def test_a_default_in_tokens_is_no_limit_for_methods_that_take_none(session, tokens):
    own = session.model.preset
    short = replace(tokens, embeds=tokens.embeds[:75], times=tokens.times[:75])
    session.model.preset = own.model_copy(update={"defaults": Defaults(keep="150")})
    try:
        assert len(session.prune(short, QUESTION, method="full").kept) == 75
    finally:
        session.model.preset = own


def test_an_empty_question_is_refused_before_anything_is_encoded(session):
    with pytest.raises(UsageError, match="question is empty"):
        session.ask("no such file.wav", "  ")


def test_a_second_session_finds_what_the_first_encoded(tiny_model_folder):
    audio, progress = make_audio(33.3, seed=5), []
    first = load(str(tiny_model_folder), device="cpu").encode(audio)
    again = load(str(tiny_model_folder), device="cpu")
    second = again.encode(audio, on_progress=lambda *done: progress.append(done))
    assert (first.from_cache, second.from_cache, progress) == (False, True, [])
    assert torch.equal(first.embeds, second.embeds)
    assert torch.equal(first.times, second.times)
    assert second.seconds == first.seconds
    answers = [again.ask(audio, QUESTION, max_new_tokens=8).answer.text for _ in range(2)]
    assert answers[0] == answers[1]


def test_another_dtype_or_recording_is_another_entry(tiny_model_folder):
    audio = make_audio(5.0, seed=6)
    load(str(tiny_model_folder), device="cpu").encode(audio)
    half = load(str(tiny_model_folder), device="cpu", dtype="bfloat16")
    assert half.encode(audio).embeds.dtype == torch.bfloat16
    assert not half.encode(make_audio(5.0, seed=7)).from_cache


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(UsageError, match="unknown model 'nanoo'"):
        load("nanoo")
    with pytest.raises(ModelError, match=r"config.json is missing"):
        load(str(tmp_path))


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, speechprune_cli, speechprune_cli.config\n"
        "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_package_s_names_resolve():
    for name in speechprune_cli.__all__:
        assert getattr(speechprune_cli, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = speechprune_cli.nonsense
