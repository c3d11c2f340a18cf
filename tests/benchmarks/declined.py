"""Counts answers that say that the recording does not tell, and those that are invented.

python tests/benchmarks/declined.py RUN

RUN is the folder of a `speechprune eval jsonl --data swapped.jsonl` with what swapped.py writes. An
answer about another recording that does not decline is invented. Beside every condition stands the
exact McNemar test with `full` on the samples that both answered.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from judge import holds, show
from swapped import WRITTEN, wordings

from speechprune_cli.bench.line import Line
from speechprune_cli.bench.store import Run

TOLD = "said|mentioned|stated|specified|provided|given|discussed|told|named|disclosed|addressed"
TELLS = "say|mention|state|specify|provide|give|discuss|tell|name|contain|include|indicate|know"
DECLINES = re.compile(
    rf"\bnot(?: \w+)? (?:{TOLD}|clear|known|available)\b"
    rf"|(?:\bnot|n't)(?: \w+)? (?:{TELLS})\b"
    r"|\bno (?:\w+ )?(?:mention|information|answer|indication|details?)\b"
    r"|\b(?:cannot|can't|can not) be (?:answered|determined)\b"
    r"|\bunknown\b"
)
GROUPS = ("own", "near", "far")


def main() -> None:
    """What was answered about the recordings that tell, then about the others."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    lines, answers = Run(parser.parse_args().run).lines(), wordings()
    asked = {f"{group}_{name}" for group in GROUPS for name in answers}
    strange = sorted({line.sample for line in lines} - asked)
    if strange:
        raise SystemExit(f"{strange[0]}: none of the questions that {WRITTEN.name} answers")

    def right(line: Line) -> bool:
        return holds(line.answers[0].text, answers[line.sample.partition("_")[2]])

    report("own recordings, right", lines, ("own",), right)
    report("own recordings, declined", lines, ("own",), lambda line: declined(line) > right(line))
    for groups in (("near", "far"), ("near",), ("far",)):
        title = f"other recordings ({' and '.join(groups)}), invented"
        report(title, lines, groups, lambda line: not declined(line))


def report(
    title: str, lines: list[Line], groups: tuple[str, ...], counts: Callable[[Line], bool]
) -> None:
    """Print how many answers of the groups count, by condition."""
    print(f"\n{title}")
    chosen = [line for line in lines if line.sample.partition("_")[0] in groups]
    verdicts = [line.answered and counts(line) for line in chosen]
    show([
        replace(line, correct=float(verdict), right=verdict)
        for line, verdict in zip(chosen, verdicts, strict=True)
    ])  # fmt: skip


def declined(line: Line) -> bool:
    """Whether the answer says that it is not told, or says nothing."""
    return declines(line.answers[0].text)


def declines(text: str) -> bool:
    """`The transcript doesn't mention it.`"""
    plain = " ".join(text.lower().replace("’", "'").split())
    return not plain or DECLINES.search(plain) is not None


if __name__ == "__main__":
    main()
