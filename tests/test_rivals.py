"""The rival methods choose what their papers' formulas choose."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import reference_rivals
import torch
from pruning_tasks import pruning_task
from torch.utils._python_dispatch import TorchDispatchMode

from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners import get_pruner

SHAPES = [(40, 12, 64), (41, 1, 64), (30, 29, 48), (25, 25, 48), (2, 1, 8)]
every_shape = pytest.mark.parametrize(("n", "keep", "width"), SHAPES)
every_seed = pytest.mark.parametrize("seed", range(4))


def task_and_embeds(n: int, keep: int, width: int, seed: int) -> tuple[PruningTask, np.ndarray]:
    task = pruning_task(n=n, keep=keep, width=width, seed=seed)
    return task, task.tokens.embeds.double().numpy()


@every_shape
@every_seed
def test_divprune(n: int, keep: int, width: int, seed: int) -> None:
    task, embeds = task_and_embeds(n, keep, width, seed)
    chosen = get_pruner("divprune").select(task).kept.tolist()
    assert chosen == reference_rivals.divprune(embeds, keep)


@every_shape
@every_seed
def test_cdpruner(n: int, keep: int, width: int, seed: int) -> None:
    task, embeds = task_and_embeds(n, min(keep, n // 2), width, seed)
    chosen = get_pruner("cdpruner").select(task).kept.tolist()
    assert chosen == reference_rivals.cdpruner(embeds, task.text.double().numpy(), task.keep)


def test_cdpruner_starts_again_where_the_directions_are_used_up() -> None:
    task = pruning_task(n=60, width=4, heads=(1, 1), keep=50)
    assert len(get_pruner("cdpruner").select(task).kept) == 50


@every_shape
@every_seed
@pytest.mark.parametrize("pivots", [1, 3])
def test_dart(n: int, keep: int, width: int, seed: int, pivots: int) -> None:
    task, embeds = task_and_embeds(n, keep, width, seed)
    chosen = get_pruner("dart", pivots=pivots).select(task).kept.tolist()
    assert chosen == reference_rivals.dart(embeds, keep, min(pivots, keep))


@every_shape
@every_seed
def test_atome(n: int, keep: int, width: int, seed: int) -> None:
    task, embeds = task_and_embeds(n, keep, width, seed)
    merged = get_pruner("atome").select(task).apply(task.tokens)
    np.testing.assert_allclose(merged, reference_rivals.atome(embeds, keep), atol=1e-5)


@every_shape
@every_seed
def test_fastadasp(n: int, keep: int, width: int, seed: int) -> None:
    task, embeds = task_and_embeds(n, keep, width, seed)
    merged = get_pruner("fastadasp").select(task).apply(task.tokens)
    weights = task.tokens.attention.double().numpy()
    expected = reference_rivals.fastadasp(embeds, weights, keep)
    np.testing.assert_allclose(merged, expected, atol=1e-5)


@every_shape
@every_seed
def test_affinity(n: int, keep: int, width: int, seed: int) -> None:
    task, embeds = task_and_embeds(n, keep, width, seed)
    merged = get_pruner("affinity").select(task).apply(task.tokens)
    np.testing.assert_allclose(merged, reference_rivals.affinity(embeds, keep), atol=1e-5)


@every_seed
@pytest.mark.parametrize(("keep", "quotas"), [(22, [10, 10, 2]), (3, [2, 1, 0]), (2, [1, 1, 0])])
@pytest.mark.parametrize("attended", [True, False])
def test_seats(keep: int, quotas: list[int], seed: int, attended: bool) -> None:
    task, embeds = task_and_embeds(22, keep, 64, seed)
    attention = task.tokens.attention if attended else None
    tokens = dataclasses.replace(task.tokens, attention=attention, per_second=10)
    chosen = get_pruner("seats", seconds=1).select(dataclasses.replace(task, tokens=tokens)).kept
    weights = np.ones(22) if attention is None else attention.double().numpy()
    windows = [range(10), range(10, 20), range(20, 22)]
    assert chosen.tolist() == reference_rivals.seats(embeds, weights, windows, quotas)


@every_seed
@pytest.mark.parametrize("threshold", [0.55, 0.6, 0.7, 1.0])
def test_samap(seed: int, threshold: float) -> None:
    task, embeds = task_and_embeds(30, 5, 48, seed)
    weights = task.tokens.attention.double().numpy()
    runs, expected = reference_rivals.samap(embeds, weights, 5, threshold)
    selection = get_pruner("samap", threshold=threshold).select(task)
    assert f"merged into {runs}, 5 of them" in selection.reason
    np.testing.assert_allclose(selection.apply(task.tokens), expected, atol=1e-5)


def test_samap_joins_no_more_than_leaves_what_is_kept() -> None:
    task = pruning_task(n=40, keep=30)
    kept = get_pruner("samap", threshold=-1).select(task)
    assert "40 tokens merged into 30, 30 of them" in kept.reason


@every_seed
@pytest.mark.parametrize(("n", "keep"), [(40, 12), (41, 1), (30, 29), (25, 25), (2, 1), (100, 9)])
def test_vispruner(n: int, keep: int, seed: int) -> None:
    task, embeds = task_and_embeds(n, keep, 64, seed)
    weights = task.tokens.attention.double().numpy()
    chosen = get_pruner("vispruner").select(task).kept.tolist()
    assert chosen == reference_rivals.vispruner(embeds, weights, keep)


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that anything makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.bytes = max(self.bytes, made.nbytes)
        return made


@pytest.mark.parametrize("keep", [100, 1999, 2000])
def test_vispruner_counts_the_matrix_that_it_builds(keep: int) -> None:
    task, size = pruning_task(n=2000, keep=keep, width=8), PruningSize(2000, 2000, keep, 750)
    pruner = get_pruner("vispruner", important=0)
    told = pruner.working_bytes(SimpleNamespace(hidden_size=8), size)
    with Largest() as largest:
        pruner.select(task)
    assert largest.bytes <= told < 2 * largest.bytes + 4 * 2000 * 8


def test_seats_counts_what_a_window_holds() -> None:
    decoder, size = SimpleNamespace(hidden_size=8), PruningSize(1000, 1000, 200, 750)
    counted = [get_pruner("seats", seconds=s).flops(decoder, size) for s in (0.01, 2, 4, 1000)]
    assert counted == [2 * 1000 * (1 + window) * 8 for window in (1, 50, 100, 1000)]


@every_seed
@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("keep", [33, 60, 100, 105])
def test_omniscope(keep: int, length: int, seed: int) -> None:
    """Eleven seconds of ten tokens, the last of five."""
    task = pruning_task(n=105, keep=keep, length=length, per_second=10, seed=seed)
    embeds, text = task.tokens.embeds.double().numpy(), task.text.double().numpy()
    seconds = [range(start, min(start + 10, 105)) for start in range(0, 105, 10)]
    merged = get_pruner("omniscope").select(task).apply(task.tokens)
    expected = reference_rivals.omniscope(embeds, text, seconds, keep)
    np.testing.assert_allclose(merged, expected, atol=1e-5)


def test_omniscope_drops_seconds_where_there_are_more_than_tokens_to_keep() -> None:
    task = pruning_task(n=200, keep=4, per_second=10)
    selection = get_pruner("omniscope").select(task)
    seconds = selection.kept // 10
    scores = selection.scores[::10]
    assert set(scores.topk(2).indices.tolist()) <= set(seconds.tolist())
    for at, merged in zip(seconds.tolist(), selection.apply(task.tokens), strict=True):
        if (seconds == at).sum() == 1:
            weights = selection.merge.weights[10 * at :][:10]
            second = task.tokens.embeds[10 * at :][:10]
            assert torch.allclose(merged, weights @ second, atol=1e-5)
            assert weights.sum().item() == pytest.approx(1)


def test_omniscope_hears_the_second_that_says_the_question() -> None:
    task = pruning_task(n=200, keep=80, per_second=10, width=64)
    embeds = task.tokens.embeds.clone()
    embeds[70:77] = 3 * task.text
    tokens = dataclasses.replace(task.tokens, embeds=embeds)
    selection = get_pruner("omniscope").select(dataclasses.replace(task, tokens=tokens))
    kept = (selection.kept // 10).bincount(minlength=20)
    assert kept.argmax() == 7
    assert kept[7] == 10


def test_segmentwise_keeps_the_best_of_every_segment() -> None:
    task = pruning_task(n=100, keep=20)
    attention = task.tokens.attention
    chosen = get_pruner("segmentwise", seconds=1).select(task).kept
    expected = [second * 25 + attention[second * 25 :][:25].topk(5).indices for second in range(4)]
    assert chosen.tolist() == torch.cat(expected).sort().values.tolist()


@pytest.mark.parametrize(("method", "field"), [("omnizip", "attention"), ("energy", "loudness")])
def test_the_highest_stay(method: str, field: str) -> None:
    task = pruning_task(n=100, keep=20)
    expected = getattr(task.tokens, field).topk(20).indices.sort().values
    assert get_pruner(method).select(task).kept.tolist() == expected.tolist()
