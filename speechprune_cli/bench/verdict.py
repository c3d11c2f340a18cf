"""Whether what was answered is right, and whether what answers was kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speechprune_cli.bench.line import Given
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.scoring import exact_match, token_f1
from speechprune_cli.flow import NO_WORDS

if TYPE_CHECKING:
    from torch import Tensor


def verdict(sample: Sample, given: Sequence[Given]) -> dict[str, Any]:
    """Fields of a line: of options, of an open answer, or that nothing was asked."""
    if not sample.answer:
        return {"correct": None}
    return judge(sample, given) if sample.options else judge_open(sample, said(given[0].text))


def said(text: str) -> str:
    """What is judged: nothing where there was nothing to answer from."""
    return "" if text == NO_WORDS else text


def judge(sample: Sample, given: Sequence[Given]) -> dict[str, Any]:
    """Share of rotations answered right, and one verdict over all of them for paired tests."""
    truth = sample.options.index(sample.answer)
    chosen = [answer.chosen for answer in given]
    shares = [answer.probabilities for answer in given if answer.probabilities is not None]
    if shares:
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
    return {"correct": float(exact), "right": exact, "f1": token_f1(text, sample.answer)}


def recall(span: tuple[float, float] | None, times: Tensor, kept: Tensor) -> float | None:
    """Share of the tokens within `span` seconds that are kept (`times` `[N, 2]`)."""
    if span is None:
        return None
    start, end = span
    inside = (times[:, 1] > start) & (times[:, 0] < end)
    total = int(inside.sum())
    return int(inside[kept].sum()) / total if total else None
