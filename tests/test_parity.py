"""The package chooses the same tokens as the literal float64 equations."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from pruning_tasks import pruning_task

import speechprune_cli
from speechprune_cli import Session, load
from speechprune_cli.flow import AudioTokens, PruningTask
from speechprune_cli.pruners import get_pruner
from speechprune_cli.pruners._attention import attention_received
from speechprune_cli.pruners._similarity import token_similarity

SHAPES = {
    "ninety seconds": {"n": 2250, "budget": 750, "keep": 150, "width": 64, "heads": (2, 2)},
    "last frame short": {"n": 263, "budget": 100, "keep": 40},
    "shorter than a frame": {"n": 11, "budget": 7, "keep": 3},
    "one token": {"n": 1, "budget": 1, "keep": 1},
    "one question token": {"n": 130, "length": 1, "budget": 90, "keep": 30},
    "short of the budget": {"n": 90, "budget": 90, "keep": 72},
    "thirteen a second": {"n": 200, "per_second": 13, "budget": 77, "keep": 33},
    "grouped queries": {"n": 150, "heads": (8, 2), "budget": 100, "keep": 50},
    "one key head": {"n": 150, "heads": (4, 1), "budget": 100, "keep": 50},
    "wide": {"n": 120, "width": 1024, "heads": (8, 8), "budget": 80, "keep": 20},
    "pairs tie": {"n": 200, "repeats": 2, "budget": 120, "keep": 51},
    "most tie": {"n": 200, "repeats": 20, "budget": 101, "keep": 33},
    "all tie": {"n": 60, "repeats": 60, "budget": 31, "keep": 8},
    "nothing pruned": {"n": 140, "budget": 140, "keep": 140},
}
EXAMPLE = Path(speechprune_cli.__file__).parent / "examples" / "meeting.ogg"
QUESTION = "Where did Daniel get a job?"
Weights = tuple[np.ndarray, np.ndarray, int, int]
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
every_scale = pytest.mark.parametrize("scale", ["paper", "normalised"])
every_head = pytest.mark.parametrize("heads", ["mean", "max"])
every_mode = pytest.mark.parametrize("mode", ["exact", "faithful"])
every_seed = pytest.mark.parametrize("seed", range(3))


def float64(task: PruningTask) -> tuple[np.ndarray, np.ndarray, Weights]:
    """Speech, text and (q_weight, k_weight, heads, kv_heads) for the reference."""
    layer = task.first_layer
    q_weight, k_weight = layer.q_weight.double().numpy(), layer.k_weight.double().numpy()
    return (
        task.tokens.embeds.double().numpy(),
        task.text.double().numpy(),
        (q_weight, k_weight, layer.heads, layer.kv_heads),
    )


def reference_phase2(
    task: PruningTask, survivors: np.ndarray, scale: str, heads: str
) -> np.ndarray:
    """Indices that phase 2 keeps of `survivors`, by the literal equations."""
    speech, text, layer = float64(task)
    attention = reference.attention(speech[survivors], *layer, scale=scale)
    similarity = reference.cosines(speech, text).mean(axis=1)[survivors]
    return survivors[reference.phase2(reference.received(attention, heads), similarity, task.keep)]


@every_seed
@every_shape
def test_similarity_and_attention_scores(shape: dict[str, Any], seed: int) -> None:
    task = pruning_task(**shape, seed=seed)
    speech, text, layer = float64(task)
    similarity = token_similarity(task.tokens.embeds, task.text).numpy()
    np.testing.assert_allclose(similarity, reference.cosines(speech, text).mean(1), atol=1e-6)
    first = task.tokens.embeds[: task.phase1_budget]
    for scale in ("paper", "normalised"):
        attention = reference.attention(speech[: task.phase1_budget], *layer, scale=scale)
        for heads in ("mean", "max"):
            ours = attention_received(first, task.first_layer, scale, heads).numpy()
            expected = reference.received(attention, heads)
            np.testing.assert_allclose(ours, expected, rtol=3e-6, atol=2e-6)


@every_seed
@every_mode
@every_shape
def test_phase1(shape: dict[str, Any], mode: str, seed: int) -> None:
    task = pruning_task(**(shape | {"keep": shape["budget"]}), seed=seed)
    speech, text, _ = float64(task)
    frame = int(task.tokens.per_second)
    for temperature in (1.0, 0.25):
        ours = get_pruner("phase1", budget_mode=mode, temperature=temperature).select(task).kept
        expected = reference.phase1(
            speech, text, frame, task.keep, mode=mode, temperature=temperature
        )
        assert ours.tolist() == expected.tolist()


@every_seed
@every_head
@every_scale
@every_shape
def test_phase2(shape: dict[str, Any], scale: str, heads: str, seed: int) -> None:
    if shape["n"] > 1000:
        shape = shape | {"n": 500, "budget": 500}
    task = pruning_task(**shape, seed=seed)
    ours = get_pruner("phase2", scale=scale, heads=heads).select(task).kept
    expected = reference_phase2(task, np.arange(len(task.tokens)), scale, heads)
    assert ours.tolist() == expected.tolist()


@every_seed
@every_scale
@every_mode
@every_shape
def test_both_phases(shape: dict[str, Any], mode: str, scale: str, seed: int) -> None:
    task = pruning_task(**shape, seed=seed)
    speech, text, _ = float64(task)
    frame = int(task.tokens.per_second)
    survivors = reference.phase1(speech, text, frame, task.phase1_budget, mode=mode)
    expected = reference_phase2(task, survivors, scale, "mean")
    ours = get_pruner("speechprune", budget_mode=mode, scale=scale).select(task).kept
    assert ours.tolist() == expected.tolist()


@cache
def real_tokens() -> tuple[Session, AudioTokens]:
    """The shipped recording, encoded by the shipped model."""
    session = load("nano", cache=False)
    return session, session.encode(EXAMPLE)


@pytest.mark.slow
@every_scale
@every_mode
def test_both_phases_on_real_embeddings(mode: str, scale: str) -> None:
    """A real recording, real weights, a real question."""
    session, tokens = real_tokens()
    task = PruningTask(
        tokens,
        session.model.embed_text(QUESTION),
        QUESTION,
        len(session.model.text_ids(QUESTION)),
        session.model.vocabulary_mean,
        session.model.first_layer(),
        first=750,
        phase1_budget=750,
        keep=300,
    )
    speech, text, _ = float64(task)
    survivors = reference.phase1(speech, text, 25, task.phase1_budget, mode=mode)
    expected = reference_phase2(task, survivors, scale, "mean")
    ours = get_pruner("speechprune", budget_mode=mode, scale=scale).select(task).kept
    assert ours.tolist() == expected.tolist()


def test_mean_over_keys_would_select_nothing() -> None:
    """Why eq. 13's mean is taken over queries: over keys every token scores 1/n."""
    task = pruning_task(n=50)
    speech, _, layer = float64(task)
    attention = reference.attention(speech, *layer, scale="paper")
    np.testing.assert_allclose(attention.mean(axis=2), 1 / 50)
    assert attention.mean(axis=1).std() > 0.01
