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
from speechprune_cli.bench.verdict import said

SOURCE = r"(?:recording|transcript|audio|text|passage|conversation|lecture|meeting|speaker)s?\b"
NEVER = r"(?:\bnot|n't)(?: been)?(?: \w+ly)?"
MISSING = (
    rf"(?:{NEVER} (?:said|mentioned|stated|specified|provided|given|discussed|named|disclosed"
    r"|addressed|clear|known|available)"
    r"|\b(?:cannot|can't|can not) be (?:answered|determined)|\bunknown|\bunclear)"
)
DECLINES = re.compile(
    r"^(?:none|nothing|n/a|no answer|i (?:do not|don't) know\b.*)$"
    rf"|^(?:(?:it|this|that|the answer)(?: is| was|'s)? ?)?{MISSING}(?:$|,)"
    rf"|{NEVER} (?:said|mentioned|stated|specified)$"
    rf"|{MISSING} (?:in|by|from) (?:the|this)(?: \w+)? {SOURCE}"
    rf"|\b{SOURCE}(?: \w+)? (?:do|does|did) ?{NEVER}"
    r" (?:say|mention|state|specify|provide|give|discuss|tell|name|contain|include|indicate)\b"
    rf"|^(?:it|they|he|she) (?:do|does|did) ?{NEVER} (?:say|mention|state|specify)"
    r"(?:$| it$| wh\w+| how)"
    r"|^(?:there(?: is| was|'s) )?no (?:\w+ )?(?:mention|information|indication|details?)\b"
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

    def refused(line: Line) -> bool:
        return declined(line) and not right(line)

    report("own recordings, right", lines, ("own",), right)
    report("own recordings, declined", lines, ("own",), refused)
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
    """`The transcript doesn't mention it.`, but not `He didn't mention it to her.`"""
    plain = re.sub(r'["“”]', "", said(text).lower().replace("’", "'"))
    sentences = re.split(r"[.;!?]+(?:\s+|$)", " ".join(plain.split()))
    return not any(sentences) or any(map(DECLINES.search, sentences))


if __name__ == "__main__":
    main()
