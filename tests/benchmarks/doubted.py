"""Counts of which questions `cue` says that a recording may not answer them.

python tests/benchmarks/doubted.py SWAPPED [--model mini] [--keep 20%]

SWAPPED is the file of questions that swapped.py writes, beside its recordings. No language model is
asked: what is counted is the pruner's own warning, which stands beside an answer.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from declined import GROUPS
from swapped import PERMIT

from speechprune_cli import load
from speechprune_cli.bench.tasks import load_task


def main() -> None:
    """Prune every recording for every question, and count the warnings."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("swapped", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--keep", default="20%")
    given = parser.parse_args()
    session = load(given.model)
    asked, warned = Counter[str](), Counter[str]()
    for sample in load_task("jsonl", given.swapped, offline=True).samples:
        question = sample.question.removesuffix(PERMIT)
        tokens = session.encode(sample.audio)
        selection = session.prune(tokens, question, method="cue", keep=given.keep)
        group = sample.id.partition("_")[0]
        asked[group] += 1
        warned[group] += bool(selection.warning)
    for group in GROUPS:
        share = warned[group] / max(asked[group], 1)
        print(f"{group}: {warned[group]} of {asked[group]} warned of ({share:.0%})")


if __name__ == "__main__":
    main()
