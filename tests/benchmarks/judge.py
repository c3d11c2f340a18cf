"""Counts free answers about the dialogues that hold one of the accepted wordings.

python tests/benchmarks/judge.py RUN

RUN is the folder of a `speechprune eval jsonl --data` with `everyday_free.jsonl` or another of the
free indexes that dialogues.py writes. Case, punctuation and articles do not count, and numbers are
the same in words and in digits; a wording counts as whole words only.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import yaml
from num2words import num2words

from speechprune_cli.bench.line import Line
from speechprune_cli.bench.metrics import summarise
from speechprune_cli.bench.scoring import normalise_answer
from speechprune_cli.bench.store import Run

WRITTEN = Path(__file__).with_name("dialogues.yaml")
WORD = re.compile(r"\d+(?:[.:]\d+)*(?:st|nd|rd|th)?|[^\W\d_]+(?:['’][^\W\d_]+)*", re.IGNORECASE)


def main() -> None:
    """A line for every condition."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    lines = Run(parser.parse_args().run).lines()
    wordings = accepted()
    strange = sorted({line.sample for line in lines} - set(wordings))
    if strange:
        raise SystemExit(f"{strange[0]}: none of the questions in {WRITTEN.name}")
    if any(given.order for line in lines for given in line.answers):
        raise SystemExit("this run chose among options: the eval has counted them")
    show([judged(line, wordings[line.sample]) for line in lines])


def show(lines: Sequence[Line]) -> None:
    """Print of every condition how many lines are right, and the exact McNemar test with `full`."""
    for row in summarise(lines):
        failed = f", {row.errors} failed" if row.errors else ""
        if row.accuracy is None:
            print(f"{row.condition:24} no answers{failed}")
            continue
        share = f"{row.accuracy:.0%} ({row.low:.0%} to {row.high:.0%})"
        tested = "" if row.p_full is None else f", p = {row.p_full:.3f} against full"
        print(
            f"{row.condition:24} {round(row.accuracy * row.n)} of {row.n} = {share}{tested}{failed}"
        )


def accepted() -> dict[str, list[str]]:
    """Accepted wordings of all questions, by the question's id."""
    return {
        f"{dialogue['id']}_{number}": question["answers"]
        for dialogue in yaml.safe_load(WRITTEN.read_text("utf-8"))
        for number, question in enumerate(dialogue["questions"], start=1)
    }


def judged(line: Line, wordings: Iterable[str]) -> Line:
    """The line with the verdict on its free answer."""
    right = line.answered and holds(line.answers[0].text, wordings)
    return replace(line, correct=float(right), right=right)


def holds(text: str, wordings: Iterable[str]) -> bool:
    """Whether one of the wordings is in the text, as whole words."""
    return any(f" {plain(wording)} " in f" {plain(text)} " for wording in wordings)


def plain(text: str) -> str:
    """`The Twenty-Second, at Miller's, for £1,800.00` -> `22nd at miller for 1800`."""
    text = re.sub(r"['’]s\b", "", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"(?<=\d)[.:]00\b", "", text)
    words = normalise_answer(" ".join(WORD.findall(text))).split()
    written = list[str]()
    while words:
        count = next((n for n in range(8, 1, -1) if " ".join(words[:n]) in numbers()), 1)
        phrase = " ".join(words[:count])
        written.append(numbers().get(phrase, phrase))
        words = words[count:]
    return " ".join(written)


@cache
def numbers() -> dict[str, str]:
    """Digits by words, up to 9999, with and without `and`; days of the month too."""
    said = {num2words(number): str(number) for number in range(10_000)}
    said |= {f"{num2words(count)} hundred": f"{count}00" for count in range(1, 100)}
    days = range(1, 32)
    said |= {num2words(day, to="ordinal"): num2words(day, to="ordinal_num") for day in days}
    found = {}
    for words, digits in said.items():
        whole = words.replace("-", " ").replace(",", "")
        for form in (whole, whole.replace(" and ", " ")):
            found[form] = found[form.removeprefix("one ")] = digits
    return found


if __name__ == "__main__":
    main()
