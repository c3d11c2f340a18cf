"""What is said beside an answer: warnings, and notes for who wants to know what was done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from speechprune_cli.config import Preset
    from speechprune_cli.flow import Audio, AudioTokens, Prompt, Selection, Transcript
    from speechprune_cli.methods import Amount
    from speechprune_cli.pipeline import Session


class Remark(NamedTuple):
    """A line, and who sees it: each is a method of `Output`."""

    level: Literal["warning", "note", "detail"]
    text: str


def on_model(preset: Preset, audio: Audio) -> Iterator[Remark]:
    """What people should know before they trust an answer."""
    if preset.name == "nano" and not packaged(audio):
        advice = "`speechprune models get mini` fetches a model that reads yours"
        yield Remark("warning", f"nano misreads most recordings but its own: {advice}")
    elif preset.caution:
        yield Remark("note", preset.caution)


def on_recording(
    session: Session, audio: Audio, tokens: AudioTokens, amount: Amount | None
) -> Iterator[Remark]:
    """What may make answers about it worth less, and where its tokens come from.

    `amount` is how much somebody said should stay; None: as by default.
    """
    for doubt in session.doubts(tokens):
        yield Remark("warning", doubt)
    if tokens.transcript is not None and tokens.transcript.language is not None:
        yield Remark("note", language(tokens.transcript))
    origin = "from the cache" if tokens.from_cache else "encoded"
    given = f"{audio.source_seconds:.1f} s at {audio.source_rate / 1000:g} kHz"
    yield Remark("note", f"{audio.source}: {given}, {tokens.seconds:.1f} s {origin}")
    asked = (amount.tokens if amount else None) or 0
    if not len(tokens):
        yield Remark("warning", f"{audio.source}: no words were recognised in it")
    elif asked > len(tokens):
        there = f"the {len(tokens)} tokens of {audio.source}"
        yield Remark("warning", f"--keep {asked} is more than {there}: all are kept")


def on_question(session: Session, question: str, choices: Sequence[str] = ()) -> Iterator[Remark]:
    """What of it the model does not read."""
    if lost := session.unread(question, choices):
        name = session.model.preset.name
        yield Remark("warning", f"{name} has no tokens for {lost!r}, and reads the rest alone")


def on_selection(selection: Selection) -> Iterator[Remark]:
    """Why these tokens, and whether that should be trusted."""
    yield Remark("detail", selection.reason)
    if selection.warning:
        yield Remark("warning", selection.warning)


def on_prompt(session: Session, prompt: Prompt) -> Iterator[Remark]:
    """The prompt itself, and whether it is longer than the model was made for."""
    yield Remark("detail", prompt.text)
    count, model = prompt.audio_tokens + prompt.text_tokens, session.model
    context = model.shape.decoder.max_position_embeddings
    if count > context:
        yield Remark(
            "warning",
            f"the prompt has {count:,} tokens, {model.preset.name} was made for {context:,}: "
            "its answer cannot be trusted, keep less",
        )


def language(transcript: Transcript) -> str:
    """The language that was found or told, and how sure that is."""
    sure = "" if transcript.sure is None else f", {transcript.sure:.0%} sure"
    return f"language: {transcript.language}{sure}"


def packaged(audio: Audio) -> bool:
    """Whether a recording is one of those inside this package."""
    return audio.sha256 in _examples()


@cache
def _examples() -> frozenset[str]:
    """SHA-256 of the recordings inside this package."""
    from speechprune_cli.config import PACKAGE

    found = (PACKAGE / "examples").glob("*.ogg")
    return frozenset(hashlib.sha256(path.read_bytes()).hexdigest() for path in found)
