"""What a line of a run says about an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speechprune_cli.bench.grid import Condition
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.scoring import exact_match, token_f1

if TYPE_CHECKING:
    from torch import Tensor


def judge(sample: Sample, read: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Share of rotations answered right, and one verdict over all of them for paired tests."""
    truth = sample.options.index(sample.answer)
    chosen = [row["chosen"] for row in read]
    if read[0]["probabilities"] is not None:
        shares = [row["probabilities"] for row in read]
        votes = [sum(column) for column in zip(*shares, strict=True)]
    else:
        votes = [chosen.count(index) for index in range(len(sample.options))]
    best = max(votes)
    return {
        "correct": chosen.count(truth) / len(chosen),
        "right": best > 0 and votes[truth] == best and votes.count(best) == 1,
        "unparsed": chosen.count(None),
    }


def judge_open(sample: Sample, text: str) -> dict[str, Any]:
    """Exact match after normalising, and the share of words in common."""
    exact = exact_match(text, sample.answer)
    return {
        "correct": float(exact),
        "right": exact,
        "f1": token_f1(text, sample.answer),
        "unparsed": 0,
    }


def failed(sample: Sample, condition: Condition, reason: str) -> dict[str, Any]:
    """The line of an answer that could not be had: an error, never a wrong answer."""
    return {
        "sample": sample.id,
        "condition": condition.name,
        "method": condition.method,
        "rate": condition.rate,
        "status": "error",
        "error": " ".join(reason.split()),
    }


def recall(span: tuple[float, float] | None, times: Tensor, kept: Tensor) -> float | None:
    """Share of the tokens within `span` seconds that are kept (`times` `[N, 2]`)."""
    if span is None:
        return None
    start, end = span
    inside = (times[:, 1] > start) & (times[:, 0] < end)
    total = int(inside.sum())
    return int(inside[kept].sum()) / total if total else None
