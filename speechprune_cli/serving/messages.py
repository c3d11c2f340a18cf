"""A conversation as OpenAI's chat completions have it: its last question, its last recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from speechprune_cli.serving.refusals import Refusal

INSTRUCTING, SPEAKING = ("system", "developer"), ("user", "assistant")


@dataclass(frozen=True)
class Asked:
    """What is read of a conversation."""

    question: str
    data: str  # base64 of the recording's file
    name: str | None  # what messages call the recording
    earlier: int  # questions before the last one


@dataclass(frozen=True)
class Turn:
    """What a user gave at once."""

    text: str
    recordings: tuple[dict[str, Any], ...]


def asked_of(messages: Sequence[Any]) -> Asked:
    """The last question about the last recording. Raises Refusal for what cannot be answered."""
    if not messages:
        raise _refusal("give at least one message, of the role user")
    turns = [turn for number, each in enumerate(messages) for turn in _turns(number, each)]
    if messages[-1]["role"] != "user":
        raise _refusal("the last message has to be the user's question")
    if not turns[-1].text.strip():
        raise _refusal("the last message holds no question: add a part of the type text")
    given = [turn.recordings for turn in turns if turn.recordings]
    if not given:
        raise _refusal("no recording: add a part of the type input_audio")
    if len(given[-1]) > 1:
        raise _refusal("two recordings in one message: one at a time is answered")
    (recording,) = given[-1]
    earlier = sum(bool(turn.text.strip()) for turn in turns[:-1])
    return Asked(turns[-1].text, recording["data"], recording.get("name"), earlier)


def _turns(number: int, message: Any) -> Iterator[Turn]:
    """What a user gives in a message; nothing in those of others."""
    where = f"messages[{number}]"
    role = message.get("role") if isinstance(message, dict) else None
    if role not in (*INSTRUCTING, *SPEAKING):
        raise _refusal(f"{where}: the role has to be user or assistant")
    turn = _turn(where, message.get("content"))
    if role in INSTRUCTING and turn.text.strip():
        own = "the model's own prompt is used: put what it has to know into the question"
        raise _refusal(f"{where}: the role {role} cannot be given, {own}")
    if role == "user":
        yield turn
    elif turn.recordings:
        raise _refusal(f"{where}: recordings come from the user")


def _turn(where: str, content: Any) -> Turn:
    """Text and recordings of one message, every part of it checked."""
    if content is None or isinstance(content, str):
        return Turn(content or "", ())
    if not isinstance(content, list):
        raise _refusal(f"{where}.content: give text, or a list of parts")
    texts: list[str] = []
    recordings: list[dict[str, Any]] = []
    for number, part in enumerate(content):
        place = f"{where}.content[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(_text(place, part.get("text")))
        elif kind == "input_audio":
            recordings.append(_recording(place, part.get("input_audio")))
        else:
            taken = "text and input_audio are; nothing is fetched from an address"
            raise _refusal(f"{place}: parts of the type {kind!r} are not taken, {taken}")
    return Turn("\n".join(texts), tuple(recordings))


def _text(place: str, text: Any) -> str:
    if not isinstance(text, str):
        raise _refusal(f"{place}.text: give text")
    return text


def _recording(place: str, recording: Any) -> dict[str, Any]:
    """`data`, and what it is called; its `format` is found in its bytes."""
    known = {"data", "format", "name"}
    if not isinstance(recording, dict) or not isinstance(recording.get("data"), str):
        raise _refusal(f"{place}.input_audio.data: give the recording's file as base64")
    if unknown := sorted(map(str, recording.keys() - known)):
        raise _refusal(f"{place}.input_audio: unknown key {unknown[0]!r}")
    for name in ("format", "name"):
        if not isinstance(recording.get(name, ""), str):
            raise _refusal(f"{place}.input_audio.{name}: give text")
    return recording


def _refusal(message: str) -> Refusal:
    return Refusal(400, message, "messages", "invalid_messages")
