"""Options by their letters, for servers that tell no more: the prompt shows them, a letter each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import TYPE_CHECKING

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import Answer
from speechprune_cli.named import parse_letter

if TYPE_CHECKING:
    from speechprune_cli.flow import Prompt
    from speechprune_cli.remote.reader import RemoteReader

LONGEST = 16  # tokens of an answer that names a letter
TOLD = 20  # likeliest tokens, as many as any server tells


def choose(
    reader: RemoteReader, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]
) -> list[Answer]:
    """The option whose letter is likeliest, or is answered. Raises ServerError, UsageError."""
    if (most := max(map(len, choices), default=0)) > len(ascii_uppercase):
        raise UsageError(
            f"choices: {most} options, but there are {len(ascii_uppercase)} letters to name them "
            "by, as this server needs: give fewer, or use vLLM"
        )
    answers: list[Answer] = reader.each(lambda *row: _choose(reader, *row), prompts, choices)
    return answers


def _choose(reader: RemoteReader, prompt: Prompt, choices: Sequence[str]) -> Answer:
    """By the first token where the server tells how likely each letter is there."""
    said, top = reader.first_token(prompt, LONGEST, TOLD)
    if shares := letter_shares(top, len(choices)):
        text = choices[shares.index(max(shares))]
        return replace(said, text=text, probabilities=dict(zip(choices, shares, strict=True)))
    named = parse_letter(said.text, choices)
    return said if named is None else replace(said, text=choices[named])


def letter_shares(top: Mapping[str, float], count: int) -> list[float]:
    """How likely each of the first `count` letters is; none where another token is likelier.

    Then the answer begins with something else, and what follows decides. A letter that is not among
    the likeliest tokens is as unlikely as the last of these.
    """
    told: dict[str, float] = {}
    for name, value in top.items():
        letter = name.strip(" \u0120\u2581")
        told[letter] = max(value, told.get(letter, -math.inf))
    letters = list(ascii_uppercase[:count])
    if not told or max(told, key=told.__getitem__) not in letters:
        return []
    most, rest = max(told.values()), min(top.values())
    weights = [math.exp(told.get(letter, rest) - most) for letter in letters]
    return [weight / sum(weights) for weight in weights]
