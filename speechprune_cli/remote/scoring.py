"""Options by the likelihood of their tokens, as `decoding.score_batch` scores them.

A request tells how likely a few tokens are behind a prompt and the beginning of an answer. So there
is one for every beginning that options have, all of them at once; what they begin with, the server
has read already.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speechprune_cli.backends._prompts import option_ids
from speechprune_cli.errors import ServerError
from speechprune_cli.flow import Answer
from speechprune_cli.remote.reply import TOKEN
from speechprune_cli.remote.ways import CHAT

if TYPE_CHECKING:
    from speechprune_cli.flow import Prompt
    from speechprune_cli.remote.reader import RemoteReader

Beginning = tuple[int, ...]


def choose(
    reader: RemoteReader, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]
) -> list[Answer]:
    """The likeliest of each prompt's options. Raises ServerError, UsageError."""
    options = [option_ids(reader.model, of_prompt) for of_prompt in choices]
    asked = [
        (number, said, sorted(nexts))
        for number, of_prompt in enumerate(options)
        for said, nexts in beginnings(of_prompt).items()
    ]
    start = time.perf_counter()

    def ask(number: int, said: Beginning, nexts: list[int]) -> dict[int, float]:
        return likelihoods(reader, prompts[number], said, nexts)

    found = reader.each(ask, *zip(*asked, strict=True)) if asked else []
    seconds = (time.perf_counter() - start) / max(len(prompts), 1)
    told = {(number, said): each for (number, said, _), each in zip(asked, found, strict=True)}
    return [
        _answer(texts, [_score(told, number, ids) for ids in ids_of], reader, seconds)
        for number, (texts, ids_of) in enumerate(zip(choices, options, strict=True))
    ]


def beginnings(options: Sequence[Sequence[int]]) -> dict[Beginning, set[int]]:
    """All that options begin with, and the tokens that follow it in some."""
    found: dict[Beginning, set[int]] = {}
    for ids in options:
        for at, token in enumerate(ids):
            found.setdefault(tuple(ids[:at]), set()).add(token)
    return found


def likelihoods(
    reader: RemoteReader, prompt: Prompt, said: Beginning, nexts: list[int]
) -> dict[int, float]:
    """Log-likelihoods of the tokens `nexts` behind the prompt and `said`."""
    told: dict[str, Any] = {"max_tokens": 1, "logprob_token_ids": nexts, "logprobs": 0}
    if reader.behind.path == CHAT:
        told |= {"logprobs": True, "top_logprobs": 0}
    (top,) = reader.once(prompt, told, said, reader.behind).tops or ({},)
    names = {token: f"{TOKEN}{token}" for token in nexts}
    if any(name not in top for name in names.values()):
        url = reader.client.address.url
        raise ServerError(f"{url} does not tell how likely tokens are (its --max-logprobs?)")
    return {token: top[name] for token, name in names.items()}


def _score(
    told: dict[tuple[int, Beginning], dict[int, float]], number: int, ids: Sequence[int]
) -> float:
    """Mean log-likelihood per token."""
    parts = (told[number, tuple(ids[:at])][token] for at, token in enumerate(ids))
    return sum(parts) / len(ids)


def _answer(
    texts: Sequence[str], scores: Sequence[float], reader: RemoteReader, seconds: float
) -> Answer:
    import torch

    shares = torch.tensor(scores, dtype=torch.float32).softmax(0).tolist()
    first, second, *_ = sorted(scores, reverse=True)
    near = int(first - second < reader.tie)
    probabilities = dict(zip(texts, shares, strict=True))
    return Answer(texts[scores.index(first)], probabilities, 0, True, seconds, 0.0, 0, near)
