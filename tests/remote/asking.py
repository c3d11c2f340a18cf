"""What is asked, in this process and of a server."""

from __future__ import annotations

import pytest
from conftest import make_audio
from model_server import Fault
from tiny_models import QUESTION

CHOICES = ["on Friday", "in the red house", "nie, in Köln"]

DOWN = Fault(drops=True)

SECONDS = 12

RARELY = pytest.mark.slow

ENCODED = {}


def prompt_of(session, keep="20%", **told):
    if (model := session.model) not in ENCODED:
        ENCODED[model] = session.encode(make_audio(SECONDS).samples, sample_rate=16_000)
    tokens = ENCODED[model]
    selection = session.prune(tokens, QUESTION, method="cue", keep=keep)
    return session.build_prompt(tokens, selection, QUESTION, **told)


def said(session, **told):
    """Answer and pieces, times and memory aside."""
    pieces = []
    answer = session.respond(prompt_of(session, **told), max_new_tokens=9, on_text=pieces.append)
    return answer.text, answer.new_tokens, answer.finished, pieces
