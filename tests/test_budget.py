"""Budgets: the paper's floor, the exact variant, deterministic top-k."""

from __future__ import annotations

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprune_cli.budget import BudgetMode, frame_quotas, top_k, top_per_frame

scores_and_sizes = st.lists(
    st.tuples(st.floats(-25, 25, width=32), st.integers(1, 30)), min_size=1, max_size=40
)


def test_top_k_decides_ties_by_the_second_score_and_then_by_time() -> None:
    scores = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0])
    assert top_k(scores, 3).tolist() == [0, 1, 2]
    assert top_k(scores, 3, tie_break=torch.tensor([0.0, 0.0, 0.0, 5.0, 5.0])).tolist() == [1, 3, 4]
    assert top_k(scores, 9).tolist() == [0, 1, 2, 3, 4]


def test_top_per_frame_takes_the_best_of_each_and_earlier_ones_on_ties() -> None:
    scores = torch.tensor([3.0, 1.0, 3.0, 7.0, 7.0, 7.0, 0.0])
    frames = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    assert top_per_frame(scores, frames, torch.tensor([2, 1, 0])).tolist() == [0, 2, 3]
    assert top_per_frame(scores, frames, torch.tensor([0, 0, 99])).tolist() == [6]


def test_faithful_is_the_papers_floor_and_misses_the_budget() -> None:
    sizes = torch.full((4,), 25)
    flat = frame_quotas(torch.zeros(4), sizes, 30, "faithful")
    assert flat.tolist() == [7, 7, 7, 7]
    peaked = frame_quotas(torch.tensor([9.0, 0.0, 0.0, 0.0]), sizes, 60, "faithful")
    assert peaked.tolist() == [59, 0, 0, 0]


def test_exact_hands_out_what_the_floor_and_full_frames_leave() -> None:
    sizes = torch.full((4,), 25)
    assert frame_quotas(torch.zeros(4), sizes, 30).tolist() == [8, 8, 7, 7]
    assert frame_quotas(torch.tensor([9.0, 0.0, 0.0, 0.0]), sizes, 60).tolist() == [25, 12, 12, 11]


def test_exact_survives_shares_that_underflow() -> None:
    sizes = torch.full((3,), 25)
    quotas = frame_quotas(torch.tensor([20.0, 0.0, -20.0]), sizes, 40, temperature=1e-3)
    assert quotas.tolist() == [25, 15, 0]


@pytest.mark.parametrize("mode", ["exact", "faithful"])
def test_a_budget_of_everything_keeps_everything(mode: BudgetMode) -> None:
    sizes = torch.tensor([25, 25, 3])
    assert frame_quotas(torch.tensor([5.0, 1.0, 0.0]), sizes, 53, mode).tolist() == [25, 25, 3]
    assert frame_quotas(torch.tensor([5.0, 1.0, 0.0]), sizes, 99, mode).tolist() == [25, 25, 3]


@settings(derandomize=True, deadline=None)
@given(scores_and_sizes, st.floats(0.01, 1), st.sampled_from([0.01, 0.5, 1, 7]))
def test_exact_meets_the_budget_within_every_frame(
    frames: list[tuple[float, int]], share: float, temperature: float
) -> None:
    scores, sizes = (torch.tensor(column) for column in zip(*frames, strict=True))
    budget = max(1, int(share * int(sizes.sum())))
    quotas = frame_quotas(scores, sizes, budget, "exact", temperature)
    assert quotas.dtype == torch.int64
    assert int(quotas.sum()) == budget
    assert (quotas >= 0).all()
    assert (quotas <= sizes).all()
    higher, lower = scores.argmax(), scores.argmin()
    assert quotas[higher] + 1 >= min(int(sizes[higher]), int(quotas[lower]))


@settings(derandomize=True, deadline=None)
@given(scores_and_sizes, st.floats(0.01, 0.99), st.sampled_from([0.5, 1, 7]))
def test_quotas_equal_the_reference(
    frames: list[tuple[float, int]], share: float, temperature: float
) -> None:
    scores, sizes = (torch.tensor(column) for column in zip(*frames, strict=True))
    budget = max(1, int(share * int(sizes.sum())))
    if budget == int(sizes.sum()):
        return
    faithful = frame_quotas(scores, sizes, budget, "faithful", temperature)
    plain = scores.double().numpy()
    assert faithful.tolist() == reference.faithful_quotas(plain, budget, temperature)
    exact = frame_quotas(scores, sizes, budget, "exact", temperature)
    assert exact.tolist() == reference.exact_quotas(plain, sizes.tolist(), budget, temperature)
