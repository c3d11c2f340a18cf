"""The rival methods choose what their papers' formulas choose."""

from __future__ import annotations

import numpy as np
import pytest
import reference_rivals
import torch
from pruning_tasks import pruning_task

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
