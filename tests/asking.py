"""What sessions are asked whose decoder is here or a server's, and what they answer."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from conftest import make_audio
from tiny_models import QUESTION

CHOICES = ["on Friday", "in the red house", "nie, in Köln"]
ENCODED = WeakKeyDictionary()  # tokens of recordings so many seconds long, by model


def prompt_of(session, seconds=12, method="cue", keep="20%", **told):
    """Of a recording, pruned."""
    known = ENCODED.setdefault(session.model, {})
    if seconds not in known:
        known[seconds] = session.encode(make_audio(seconds).samples, sample_rate=16_000)
    selection = session.prune(known[seconds], QUESTION, method=method, keep=keep)
    return session.build_prompt(known[seconds], selection, QUESTION, **told)


def said(session, prompt=None, count=9):
    """Text, tokens, whether it came to its end, and the pieces in which it was shown."""
    pieces = []
    prompt = prompt or prompt_of(session)
    answer = session.respond(prompt, max_new_tokens=count, on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text
    return answer.text, answer.new_tokens, answer.finished, pieces
