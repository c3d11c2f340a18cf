"""Answers of a session whose decoder is here or a server's, to be compared."""

from __future__ import annotations

import dataclasses

from conftest import make_audio
from tiny_models import QUESTION

from speechprune_cli.pipeline import Session

HEADS = {"hidden_size": 128}  # vLLM's attention on a processor wants heads of 32


def prompt_of(session: Session, seconds: float, method: str = "cue", keep: str = "10%", **told):
    """Of a recording, pruned."""
    tokens = session.encode(make_audio(seconds).samples, sample_rate=16_000)
    selection = session.prune(tokens, QUESTION, method=method, keep=keep)
    return session.build_prompt(tokens, selection, QUESTION, **told)


def said(session: Session, prompt, count: int = 24) -> dict:
    """An answer, streamed, times and memory aside."""
    pieces: list[str] = []
    answer = session.respond(prompt, max_new_tokens=count, on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text
    return {
        name: value
        for name, value in dataclasses.asdict(answer).items()
        if name in ("text", "new_tokens", "finished")
    }
