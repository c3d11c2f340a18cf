"""How far every family is from the stock model of its class, on tiny models with random weights.

    PYTHONPATH=tests python tests/benchmarks/parity_table.py

Prints one Markdown table, by what the families' tests call (`tests/parity.py`): the greatest
difference of any logit with all tokens kept, answers of 20 tokens that are the stock model's, the
greatest difference of the last logits of a pruned prompt, and how many lines the family's file has.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from conftest import make_audio
from parity import LENGTHS, POSITIONS, PRUNED, logits_apart, prompt_of, pruned_apart, same_answer
from tiny_families import TINY, Tiny
from transformers.utils import logging

from speechprune_cli import load

HEADS = ("family", "whole prompt", "same answers", *POSITIONS, "lines of its file")


def row(name: str, tiny: Tiny, folder: Path) -> list[str]:
    """A family's name, differences and lines."""
    made = tiny.make(folder / "models" / name)
    lm: Any = load(str(made), device="cpu", dtype="float32", cache=False).model
    stock, apart, same = tiny.stock(lm), [], []
    for seconds in LENGTHS:
        audio = make_audio(seconds)
        inputs, prompt = tiny.inputs(lm, audio), prompt_of(lm, audio, tiny.at_once)
        apart.append(logits_apart(lm, stock, inputs, prompt))
        same.append(same_answer(lm, prompt, tiny.tokens(lm, stock, inputs)))
    pruned = [greatest(lm, stock, tiny, position) for position in POSITIONS]
    lines = Path(inspect.getfile(type(lm))).read_text(encoding="utf-8").count("\n")
    answers = f"{sum(same)} of {len(same)}"
    return [
        f"`{name}`",
        f"{max(apart):.2g}",
        answers,
        *(f"{each:.2g}" for each in pruned),
        f"{lines}",
    ]


def greatest(lm: Any, stock: Any, tiny: Tiny, position: str) -> float:
    """How far a pruned prompt's last logits are, of any recording."""
    apart = []
    for seconds in PRUNED:
        audio = make_audio(seconds)
        read = tiny.given(stock, tiny.inputs(lm, audio))
        prompt = prompt_of(lm, audio, tiny.at_once, every=3, position=position)
        apart.append(pruned_apart(lm, stock, read, prompt, position))
    return max(apart)


def main() -> None:
    """Measure and print."""
    logging.disable_progress_bar()
    whole, pruned = (", ".join(f"{each:g}" for each in some) for some in (LENGTHS, PRUNED))
    print(f"Recordings of {whole} s; with every third token kept: of {pruned} s.\n")
    print(f"| {' | '.join(HEADS)} |\n|---{'|---:' * (len(HEADS) - 1)}|")
    for number, (name, tiny) in enumerate(TINY.items(), start=1):
        print(f"\r{number} of {len(TINY)}", end="", file=sys.stderr)
        with TemporaryDirectory() as folder:
            print(f"| {' | '.join(row(name, tiny, Path(folder)))} |", flush=True)


if __name__ == "__main__":
    main()
