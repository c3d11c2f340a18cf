"""Rows from lines whose every number is known."""

from __future__ import annotations

import pytest

from speechprune_cli.bench.line import Line
from speechprune_cli.bench.metrics import doubts, hard_ids, paired_tests, summarise
from speechprune_cli.bench.statistics import mcnemar, wilson


def answered(sample: str, condition: str, right: bool, **fields) -> Line:
    chosen = {
        "correct": float(right),
        "right": right,
        "kept": 600,
        "share": 0.25,
        "prompt_tokens": 620,
        "prune_seconds": 0.01,
        "prefill_seconds": 0.1,
        "tflops": 2.0,
        **fields,
    }
    return Line(sample=sample, **asked(condition), status="ok", **chosen)


def failed(sample: str, condition: str) -> Line:
    return Line(sample=sample, **asked(condition), status="error", error="out of memory")


def asked(condition: str) -> dict:
    method, _, rate = condition.partition(" ")
    return {"condition": condition, "method": method, "rate": float(rate) if rate else None}


LINES = [
    answered("a", "full", True),
    answered("a", "original", False),
    answered("a", "speechprune 0.4", True, recall=0.9, prefill_seconds=0.1, unparsed=1),
    answered("b", "full", True),
    answered("b", "original", False),
    answered("b", "speechprune 0.4", False, recall=0.5, prefill_seconds=0.2, correct=0.25),
    answered("c", "full", False),
    answered("c", "original", True),
    answered("c", "speechprune 0.4", True, prefill_seconds=9.0, kept=300),
    answered("d", "full", True),
    failed("d", "original"),
    failed("d", "speechprune 0.4"),
]


def test_a_row_per_condition_in_order():
    full, original, pruned = summarise(LINES)
    assert [full.condition, original.condition] == ["full", "original"]
    assert (pruned.condition, pruned.method, pruned.rate) == ("speechprune 0.4", "speechprune", 0.4)
    assert (pruned.n, pruned.errors, pruned.unparsed) == (3, 1, 1)
    assert pruned.accuracy == pytest.approx(2.25 / 3)
    assert (pruned.low, pruned.high) == wilson(2.25, 3)
    assert pruned.recall == pytest.approx(0.7), "over the samples whose key sentence is known"
    assert (pruned.kept, pruned.share, pruned.prompt_tokens) == (500, 0.25, 620)
    assert (pruned.prefill_seconds, pruned.prune_seconds, pruned.tflops) == (0.2, 0.01, 2)
    assert pruned.f1 is None


def test_paired_tests_take_the_samples_that_both_answered():
    full, original, pruned = summarise(LINES)
    assert full.p_full is None
    assert original.p_original is None
    assert full.p_original == original.p_full == mcnemar(2, 1)
    assert pruned.p_full == mcnemar(1, 1)
    assert pruned.p_original == mcnemar(1, 0)


def test_the_last_line_of_a_sample_counts():
    again = [*LINES, answered("d", "speechprune 0.4", True), answered("a", "full", False)]
    full, _, pruned = summarise(again)
    assert (pruned.n, pruned.errors) == (4, 0)
    assert full.accuracy == 0.5
    assert [row.condition for row in summarise(again)] == [
        row.condition for row in summarise(LINES)
    ]


def test_a_condition_without_answers_has_no_accuracy():
    [full, pruned] = summarise([answered("a", "full", True), failed("a", "crop 0.2")])
    assert (pruned.n, pruned.errors) == (0, 1)
    assert pruned.accuracy is pruned.low is pruned.prefill_seconds is pruned.p_full is None
    assert full.p_original is None, "original was not run"
    assert summarise([]) == []


def test_the_hard_list_is_what_original_got_wrong():
    assert hard_ids(LINES) == ["a", "b"], "an error is no wrong answer"
    assert hard_ids([*LINES, answered("a", "original", True)]) == ["b"]


def test_on_its_own_failures_original_is_no_rival():
    full, original, pruned = summarise(LINES, samples=hard_ids(LINES), hard=True)
    assert (original.n, original.accuracy) == (2, 0)
    assert full.p_original is pruned.p_original is None
    assert pruned.p_full == mcnemar(0, 1)
    assert summarise(LINES, samples=["a", "c"])[2].p_original == mcnemar(1, 0)
    assert summarise(LINES, samples=["a", "b"])[0].p_original == mcnemar(2, 0), "chosen otherwise"


def test_what_the_model_was_not_asked_about_took_it_no_time():
    wordless = [answered(name, "full", False, total=0, prefill_seconds=0.0) for name in "abc"]
    [row] = summarise([*wordless, answered("d", "full", True, prefill_seconds=0.4)])
    assert (row.n, row.accuracy, row.prefill_seconds) == (4, 0.25, 0.4)
    assert summarise(wordless)[0].prefill_seconds is None


def test_f1_is_of_open_questions():
    lines = [answered("a", "full", False, f1=0.5), answered("b", "full", True, f1=1.0)]
    assert summarise([*lines, answered("c", "full", True)])[0].f1 == 0.75


def test_where_nothing_was_asked_only_what_is_kept_is_told():
    spans = [
        answered("a", name, False, correct=None, recall=recall, prefill_seconds=0.0)
        for name, recall in (("full", 1.0), ("original", 0.0), ("cue 0.4", 0.5), ("cut 0.4", 0.2))
    ]
    for row in summarise(spans):
        assert (row.n, row.errors, row.share, row.prune_seconds) == (1, 0, 0.25, 0.01)
        assert (row.accuracy, row.low, row.high, row.p_full, row.p_original) == (None,) * 5
        assert row.prefill_seconds is None
    assert [row.recall for row in summarise(spans)] == [1.0, 0.0, 0.5, 0.2]
    assert hard_ids(spans) == []
    assert paired_tests(spans, "cue") == []
    both = summarise([*spans, answered("b", "full", True, recall=0.0, prefill_seconds=0.1)])[0]
    assert (both.n, both.accuracy, both.recall, both.prefill_seconds) == (2, 1, 0.5, 0.1)


def test_answers_that_hang_on_a_tie_are_counted():
    lines = [*LINES, answered("c", "full", True, ties=2), answered("d", "full", True, ties=1)]
    (told,) = [line for line in doubts(lines) if "hang on a tie" in line]
    assert f"2 of {sum(line.answered for line in lines)}" in told
    assert not any("hang on a tie" in line for line in doubts(LINES))
    assert Line.from_json(lines[-1].to_json()[:-1], "here").ties == 1
    assert b"ties" not in LINES[0].to_json()
