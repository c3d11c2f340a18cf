"""Free answers are right where they hold an accepted wording, however it is written."""

from __future__ import annotations

import re
import sys
from functools import partial

import pytest

pytest.importorskip("num2words", reason="training is an extra")

from benchmarks import judge

from speechprune_cli.bench.line import Given, Line
from speechprune_cli.bench.store import Run


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("It costs 240.", "two hundred and forty"),
        ("It is £1,800.00.", "eighteen hundred"),
        ("a hundred and twenty", "120"),
        ("On the nineteenth", "19th"),
        ("At THE bakery!", "bakery"),
        ("Twelve thirty", "12 30"),
        ("mid-April", "mid April"),
        ("Because her tram's late", "tram"),
        ("£9.50", "9.50"),
    ],
)
def test_an_answer_holds_a_wording_however_it_is_written(text, wording):
    assert judge.holds(text, ["something else", wording])


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("22", "two"),
        ("twenty-two pounds", "two"),
        ("four hundred", "4"),
        ("1.5", "5"),
        ("a carpet", "car"),
        ("", "tram"),
    ],
)
def test_an_answer_does_not_hold_parts_of_words_and_numbers(text, wording):
    assert not judge.holds(text, [wording])


def test_free_answers_of_a_run_are_judged_by_condition(tmp_path, monkeypatch, capsys):
    answer = partial(Line, method="full", status="ok", f1=0.0)
    lines = [
        answer(sample=f"{name}_1", condition=condition, answers=(Given((), text, None, None),))
        for name, condition, text in (
            ("barber", "full", "He has an interview."),
            ("kitchen_table", "full", "On Friday."),
            ("kitchen_table", "cue 0.2", "On Sunday."),
        )
    ]
    failed = Line(sample="doctor_1", condition="full", method="full", status="error", error="late")
    with Run(tmp_path).appending() as file:
        for line in (*lines, failed):
            file.write(line)
    monkeypatch.setattr(sys, "argv", ["judge.py", str(tmp_path)])
    judge.main()
    told = [re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert told == [
        ["full", "1 of 2 = 50% (9% to 91%), 1 failed"],
        ["cue 0.2", "1 of 1 = 100% (21% to 100%), p = 1.000 against full"],
    ]


CHOSEN = Line(
    sample="barber_1",
    condition="full",
    method="full",
    status="ok",
    answers=(Given((0, 1), "job interview", 0, None),),
)
STRANGE = Line(sample="else", condition="full", method="full", status="error", error="late")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (STRANGE, r"else: none of the questions in dialogues\.yaml"),
        (CHOSEN, "this run chose among options"),
    ],
)
def test_other_answers_are_not_judged(line, reason, tmp_path, monkeypatch):
    with Run(tmp_path).appending() as file:
        file.write(line)
    monkeypatch.setattr(sys, "argv", ["judge.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=reason):
        judge.main()
