"""What holds for every pruning method, and what each does by itself."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_tasks import audio_tokens, pruning_task, written

from speechprune_cli.costs import PruningSize
from speechprune_cli.errors import NumericError, UsageError
from speechprune_cli.flow import TRANSCRIPT, PruningTask, Selection
from speechprune_cli.pruners import PRUNERS, get_pruner
from speechprune_cli.pruners._attention import _narrow, _product, attention_received
from speechprune_cli.pruners._similarity import token_similarity

METHODS = PRUNERS.names
EMBEDDING_READERS = [name for name in METHODS if PRUNERS.part(name).reads_embeddings]
every_method = pytest.mark.parametrize("method", METHODS)
pytestmark = pytest.mark.usefixtures("tiny_minilm")
quick = settings(derandomize=True, deadline=None, max_examples=25)


@st.composite
def tasks(draw: st.DrawFn) -> PruningTask:
    n = draw(st.integers(1, 130))
    keep = draw(st.integers(1, n))
    return pruning_task(
        n=n,
        length=draw(st.integers(1, 6)),
        heads=draw(st.sampled_from([(1, 1), (4, 4), (4, 2), (4, 1)])),
        budget=draw(st.integers(keep, n)),
        keep=keep,
        per_second=draw(st.sampled_from([25, 13, 12.5, 3])),
        repeats=draw(st.sampled_from([1, 1, 2, 5])),
        seed=draw(st.integers(0, 10_000)),
    )


def with_embeds(task: PruningTask, embeds: torch.Tensor) -> PruningTask:
    return dataclasses.replace(task, tokens=audio_tokens(embeds, task.tokens.per_second))


def select(method: str, task: PruningTask, **options: Any) -> Selection:
    """What a method keeps, of a transcript where it reads one."""
    pruner = get_pruner(method, **options)
    return pruner.select(written(task) if TRANSCRIPT in pruner.requires else task)


def kept(method: str, task: PruningTask, **options: Any) -> list[int]:
    return select(method, task, **options).kept.tolist()


def expected_count(method: str, task: PruningTask) -> int:
    size = PruningSize(len(task.tokens), task.phase1_budget, task.keep, task.first)
    return get_pruner(method).retained(size)


@every_method
@quick
@given(task=tasks())
def test_kept_is_sorted_unique_in_range_and_exact(method: str, task: PruningTask) -> None:
    selection = select(method, task)
    indices = selection.kept.tolist()
    assert indices == sorted(set(indices))
    assert set(indices) <= set(range(len(task.tokens)))
    assert len(indices) == expected_count(method, task)
    assert selection.kept.dtype == torch.int64
    assert selection.scores.dtype == torch.float32
    assert selection.scores.shape == (len(task.tokens),)
    assert selection.scores[selection.kept].isfinite().all()
    assert (selection.method, selection.phase1_budget) == (method, task.phase1_budget)
    assert len(selection.reason.splitlines()) == 1
    retained = selection.apply(task.tokens)
    if selection.merge is None:
        assert torch.equal(retained, task.tokens.embeds[indices])
    else:
        assert retained.shape == (len(indices), task.tokens.embeds.shape[1])


@quick
@given(task=tasks(), method=st.sampled_from(["atome", "fastadasp", "affinity"]))
def test_merging_loses_no_token_and_averages_runs(method: str, task: PruningTask) -> None:
    """Every retained token is the weighted mean of a run that begins where it stands."""
    selection = get_pruner(method).select(task)
    merge = selection.merge
    assert merge is not None
    assert (merge.weights > 0).all()
    starts = selection.kept.tolist()
    retained = selection.apply(task.tokens)
    for number, (start, end) in enumerate(pairwise([*starts, len(task.tokens)])):
        assert merge.into[start:end].tolist() == [number] * (end - start)
        weights = (merge.weights[start:end] / merge.weights[start:end].sum()).double()
        mean = weights @ task.tokens.embeds[start:end].double()
        assert torch.allclose(retained[number].double(), mean, atol=1e-5)


@every_method
@quick
@given(task=tasks(), seed=st.integers(0, 99))
def test_deterministic_also_under_a_seed(method: str, task: PruningTask, seed: int) -> None:
    pruner = get_pruner(method)
    options = {"seed": seed} if hasattr(pruner, "seed") else {}
    assert kept(method, task, **options) == kept(method, task, **options)


@every_method
@quick
@given(task=tasks(), scale=st.floats(1e-3, 1e3))
def test_scaling_the_embeddings_changes_nothing(
    method: str, task: PruningTask, scale: float
) -> None:
    assert kept(method, with_embeds(task, task.tokens.embeds * scale)) == kept(method, task)


@every_method
@quick
@given(task=tasks())
def test_stored_precision_changes_nothing(method: str, task: PruningTask) -> None:
    stored = with_embeds(task, task.tokens.embeds.bfloat16())
    assert kept(method, stored) == kept(method, with_embeds(task, stored.tokens.embeds.float()))


@every_method
@quick
@given(task=tasks())
def test_nothing_pruned_at_rate_zero(method: str, task: PruningTask) -> None:
    n = len(task.tokens)
    whole = dataclasses.replace(task, first=n, phase1_budget=n, keep=n)
    assert kept(method, whole) == list(range(n))


@every_method
@quick
@given(task=tasks())
def test_something_left_at_rate_99(method: str, task: PruningTask) -> None:
    assert kept(method, dataclasses.replace(task, keep=max(1, round(len(task.tokens) / 100))))


@pytest.mark.parametrize("method", ["phase2", "random"])
def test_kept_have_the_highest_scores(method: str) -> None:
    selection = get_pruner(method).select(pruning_task())
    dropped = torch.ones(200, dtype=torch.bool).index_fill_(0, selection.kept, False)
    assert selection.scores[selection.kept].min() >= selection.scores[dropped].max()


def test_speechprune_never_looks_past_phase_1() -> None:
    task = pruning_task(n=200, budget=80, keep=30)
    selection = get_pruner("speechprune").select(task)
    survivors = kept("phase1", dataclasses.replace(task, keep=80))
    assert selection.scores.isfinite().nonzero().flatten().tolist() == survivors
    assert set(selection.kept.tolist()) <= set(survivors)


@pytest.mark.parametrize("scale", ["paper", "normalised"])
@pytest.mark.parametrize("heads", ["mean", "max"])
@pytest.mark.parametrize("block", [1, 7, 64])
def test_streamed_attention_equals_unstreamed(scale: Any, heads: Any, block: int) -> None:
    task = pruning_task(n=150, width=64, heads=(4, 2), repeats=2)
    whole = attention_received(task.tokens.embeds, task.first_layer, scale, heads, 150)
    streamed = attention_received(task.tokens.embeds, task.first_layer, scale, heads, block)
    assert torch.allclose(streamed, whole, rtol=1e-6, atol=2e-6)
    if heads == "mean":
        assert whole.mean().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("largest", [127, 128, 500])
def test_products_are_exact_whether_int8_holds_them_or_not(largest: int) -> None:
    generator = torch.Generator().manual_seed(largest)
    left, right = (
        torch.randint(-largest, largest + 1, (n, 24), generator=generator) for n in (33, 17)
    )
    left[0, 0] = largest
    product = _product(*_narrow(left.float(), right.float()))
    assert torch.equal(product.long(), left @ right.T)


def test_equal_tokens_tie_and_the_earlier_one_stays() -> None:
    task = pruning_task(n=100, repeats=100, keep=10)
    for method in ("phase2", "speechprune"):
        assert kept(method, task) == list(range(10))


def test_attention_ties_go_to_the_token_closer_to_the_question() -> None:
    """Tokens of one sign pattern receive the same attention whatever their sizes are."""
    sizes = torch.rand(20, 8, generator=torch.Generator().manual_seed(1)) + 0.1
    task = with_embeds(pruning_task(n=20, width=8, heads=(2, 2), keep=6), sizes)
    by_similarity = sorted(token_similarity(sizes, task.text).topk(6).indices.tolist())
    assert kept("phase2", task) == kept("speechprune", task) == by_similarity


@pytest.mark.parametrize(("n", "width"), [(1003, 100), (751, 64), (97, 1024)])
@pytest.mark.parametrize("scale", ["paper", "normalised"])
def test_equal_tokens_get_equal_scores(n: int, width: int, scale: Any) -> None:
    task = pruning_task(n=n, width=width, repeats=n // 7, heads=(4, 4))
    embeds = task.tokens.embeds
    distinct = len(embeds.unique(dim=0))
    assert len(token_similarity(embeds, task.text).unique()) == distinct
    received = attention_received(embeds, task.first_layer, scale, "mean", 64)
    assert len(received.unique()) <= distinct


def test_baselines_by_hand() -> None:
    task = pruning_task(n=10, budget=6, keep=3)
    assert kept("uniform", task) == [1, 5, 8]
    assert kept("original", task) == [0, 1, 2, 3, 4, 5]
    start = kept("crop", task, seed=3)[0]
    assert kept("crop", task, seed=3) == [start, start + 1, start + 2]
    assert len({kept("crop", task, seed=seed)[0] for seed in range(60)}) == 8


def test_random_at_a_higher_rate_keeps_part_of_what_a_lower_rate_keeps() -> None:
    task = pruning_task(keep=100)
    fewer = dataclasses.replace(task, keep=20)
    assert set(kept("random", fewer, seed=5)) < set(kept("random", task, seed=5))
    assert kept("random", task, seed=5) != kept("random", task, seed=6)


def test_faithful_budgets_may_miss_the_target_and_say_so() -> None:
    task = pruning_task(n=1000, budget=750, keep=740)
    selection = get_pruner("speechprune", budget_mode="faithful").select(task)
    assert len(selection.kept) < 740
    assert "faithful budgets lost the rest" in selection.reason
    with pytest.raises(UsageError, match="leave nothing of 7 tokens over 40 seconds"):
        kept("phase1", dataclasses.replace(task, keep=7), budget_mode="faithful")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "speechprun",
            {},
            "unknown pruning method 'speechprun' .do you mean speechprune",
        ),
        ("_similarity", {}, "unknown pruning method"),
        ("phase1", {"scale": "paper"}, "key 'scale': the known ones are budget_mode, temperature"),
        ("full", {"seed": 1}, "unknown key 'seed': there is none"),
        ("phase1", {"budget_mode": "loose"}, "budget_mode is 'loose': .*'exact' or 'faithful'"),
        ("speechprune", {"budget_mode": "loose"}, "budget_mode is 'loose'"),
        ("speechprune", {"scale": "big"}, "scale is 'big': .*'paper' or 'normalised'"),
        ("phase2", {"heads": "min"}, "heads is 'min'"),
        ("phase1", {"temperature": 0}, "temperature is 0: .*greater than 0"),
        ("phase1", {"temperature": float("nan")}, "temperature is nan"),
        ("phase1", {"temperature": float("inf")}, "temperature is inf"),
        ("phase1", {"temperature": "warm"}, "temperature is 'warm'"),
        ("random", {"seed": -1}, "seed is -1"),
        ("random", {"seed": True}, "seed is True"),
        ("crop", {"seed": 0.5}, "seed is 0.5"),
        ("cue", {"choices": "no"}, "choices is 'no': .*boolean"),
        ("cue", {"longest": 0}, "longest is 0: .*greater than 0"),
        ("cue", {"reach": 1.5}, "reach is 1.5: .*less than or equal to 1"),
        ("cue", {"longest": float("nan")}, "longest is nan"),
        ("dart", {"pivots": 0}, "pivots is 0: .*greater than or equal to 1"),
        ("segmentwise", {"seconds": 0}, "seconds is 0: .*greater than 0"),
        ("seats", {"seconds": 0}, "seconds is 0: .*greater than 0"),
        ("vispruner", {"important": 2}, "important is 2: .*less than or equal to 1"),
        ("samap", {"threshold": 1.5}, "threshold is 1.5: .*less than or equal to 1"),
        ("omniscope", {"least": -1}, "least is -1: .*greater than or equal to 0"),
    ],
)
def test_wrong_settings_are_one_clear_line(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        get_pruner(name, **options)


def test_impossible_tasks_are_refused() -> None:
    task = pruning_task(n=20, budget=10, keep=5)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"keep": 0}, "tokens to keep: 0 is not within the recording's 1 to 20"),
        ({"keep": 21}, "tokens to keep: 21"),
        ({"phase1_budget": 21}, "phase-1 budget: 21"),
        ({"text": task.text[:0]}, "the question is empty"),
        ({"keep": 11}, "cannot keep 11 tokens of a phase-1 budget of 10"),
    ]
    for change, message in changes:
        with pytest.raises(UsageError, match=message):
            kept("speechprune", dataclasses.replace(task, **change))


@pytest.mark.parametrize("method", EMBEDDING_READERS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_embeddings_that_are_no_numbers_are_refused(method: str, poison: float) -> None:
    task = pruning_task()
    task.tokens.embeds[3, 3] = poison
    with pytest.raises(NumericError, match="NaN or infinity"):
        kept(method, task)


def test_silent_tokens_are_allowed() -> None:
    task = pruning_task()
    task.tokens.embeds[20:60] = 0
    for method in METHODS:
        assert len(kept(method, task)) == expected_count(method, task)


def test_choosing_a_method_does_not_import_torch() -> None:
    code = (
        "import sys; from speechprune_cli.pruners import PRUNERS, get_pruner; "
        "[get_pruner(name) for name in PRUNERS.names]; "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("method", [name for name in METHODS if not PRUNERS.part(name).asks])
@quick
@given(task=tasks())
def test_what_does_not_ask_keeps_the_same_for_every_question(
    method: str, task: PruningTask
) -> None:
    """So that a recording can be read once for many questions."""
    other = dataclasses.replace(task, text=-task.text.flip(0))
    assert kept(method, task) == kept(method, other)
    assert not get_pruner(method).select(task).asks


def test_methods_that_ask_are_told_from_those_that_do_not() -> None:
    asking = {name for name in METHODS if PRUNERS.part(name).asks}
    assert {"cue", "phase1", "speechprune", "cdpruner", "omniscope"} <= asking
    assert not asking & {"full", "original", "uniform", "random", "crop", "energy"}
