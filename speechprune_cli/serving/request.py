"""A request as OpenAI's chat completions have it, read strictly: nothing is left out in silence.

Answers are greedy, the chat prompt is the model's own, and one recording is asked one question:
what asks for something else is refused.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from speechprune_cli.errors import UsageError
from speechprune_cli.question import check_question, checked_choices
from speechprune_cli.serving.limits import MEGABYTE, Limits
from speechprune_cli.serving.messages import asked_of
from speechprune_cli.serving.pruning import Pruning
from speechprune_cli.serving.refusals import Refusal

T = TypeVar("T")
NAME = "the recording"  # what messages call it where a request does not say
MOST_PARTS = 100_000  # of a request's JSON, by the signs that begin or part them

UNREAD = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "seed",
    "service_tier",
    "store",
    "user",
)
"""Options that change nothing of a greedy answer."""
ONLY: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "stop": ([],),
    "temperature": (0,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
"""Options that are taken where they ask for what is done anyway."""
NARROWING = {"top_p": 1, "top_k": -1, "min_p": 0}
"""Options that change nothing where the likeliest token is taken, or at these values."""
OWN = (
    "choices",
    "details",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "position",
    "pruning",
    "stream",
    "stream_options",
    "track",
)


@dataclass(frozen=True)
class Served:
    """What requests are answered with where they do not say."""

    model: str
    pruning: Pruning
    max_new_tokens: int
    limits: Limits


@dataclass(frozen=True)
class Request:
    """A question about a recording."""

    question: str
    recording: bytes
    name: str  # what messages call the recording
    earlier: int  # questions before it, which are not read
    choices: tuple[str, ...]
    pruning: Pruning
    position: str | None
    track: int | None
    max_new_tokens: int
    stream: bool
    include_usage: bool
    details: bool  # whether the answer says all that `ask --json` does


def read_request(body: bytes, served: Served) -> Request:
    """Raises Refusal, UsageError."""
    told = _object(body)
    check_options(told)
    _check_model(told, served.model)
    choices = _choices(told, served.limits)
    asked = asked_of(_typed(told, "messages", list, []))
    check_question(asked.question)
    _check_length(asked.question, choices, served.limits)
    pruning = _typed(told, "pruning", dict, None)
    usage = _typed(_typed(told, "stream_options", dict, {}), "include_usage", bool, False)
    position = _typed(told, "position", str, None)
    if position not in (None, "repacked", "original"):
        raise Refusal(400, f"position {position!r}: repacked or original", "position")
    return Request(
        question=asked.question,
        recording=_decoded(asked.data, served.limits),
        name=asked.name or NAME,
        earlier=asked.earlier,
        choices=choices,
        pruning=served.pruning if pruning is None else Pruning.read(pruning),
        position=position,
        track=_positive(told, "track"),
        max_new_tokens=_max_new_tokens(told, served),
        stream=_typed(told, "stream", bool, False),
        include_usage=usage,
        details=_typed(told, "details", bool, False),
    )


def check_options(told: Mapping[str, Any]) -> None:
    """Raise Refusal for options that ask for anything but one greedy answer in text."""
    for name, value in told.items():
        if name in OWN or name in UNREAD:
            continue
        if name in NARROWING:
            if value != NARROWING[name] and told.get("temperature") != 0:
                raise Refusal(400, f"{name}: answers are greedy: give temperature 0", name)
        elif name not in ONLY:
            raise Refusal(400, f"unknown option {name!r}", name, "unknown_parameter")
        elif value not in ONLY[name]:
            only = " or ".join(json.dumps(each) for each in ONLY[name])
            reason = f"answers are one greedy text: leave {name} out, or give {only}"
            raise Refusal(400, reason, name, "unsupported_value")


def _object(body: bytes) -> dict[str, Any]:
    """The request, options that are null left out."""
    if sum(map(body.count, (b"{", b"[", b","))) > MOST_PARTS:  # each would take much more memory
        reason = f"the request has more than {MOST_PARTS:,} lists, objects and commas"
        raise Refusal(413, reason, code="too_large")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the request is no JSON: {error}", code="invalid_json") from error
    if not isinstance(told, dict):
        raise Refusal(400, "the request is no JSON object", code="invalid_json")
    return {name: value for name, value in told.items() if value is not None}


def _typed(told: Mapping[str, Any], name: str, kind: type[T], default: Any) -> Any:
    """An option of that type, or the default."""
    value = told.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        expected = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
        raise Refusal(400, f"{name}: give {expected.get(kind, 'a whole number')}", name)
    return value


def _positive(told: Mapping[str, Any], name: str) -> int | None:
    value: int | None = _typed(told, name, int, None)
    if value is not None and value < 1:
        raise Refusal(400, f"{name} is {value}: give at least 1", name)
    return value


def _check_model(told: Mapping[str, Any], served: str) -> None:
    asked = _typed(told, "model", str, None)
    if asked is None:
        raise Refusal(400, f"model: say which: {served}", "model", "missing_required_parameter")
    if asked != served:
        reason = f"no model {asked!r} is served, only {served}"
        raise Refusal(404, reason, "model", "model_not_found")


def _choices(told: Mapping[str, Any], limits: Limits) -> tuple[str, ...]:
    choices = _typed(told, "choices", list, [])
    if len(choices) > limits.choices:
        raise Refusal(400, f"choices: at most {limits.choices} are taken", "choices")
    try:
        return checked_choices(choices)
    except UsageError as error:
        raise Refusal(400, str(error), "choices", "usage_error") from error


def _check_length(question: str, choices: tuple[str, ...], limits: Limits) -> None:
    if reason := limits.too_long(question, choices):
        raise Refusal(413, reason, "messages", "too_long")


def _max_new_tokens(told: Mapping[str, Any], served: Served) -> int:
    newer, older = _positive(told, "max_completion_tokens"), _positive(told, "max_tokens")
    count = newer or older or served.max_new_tokens
    most = served.limits.new_tokens
    if count > most:
        name = "max_completion_tokens" if newer else "max_tokens"
        raise Refusal(400, f"{name} is {count:,}: at most {most:,} are generated", name)
    return count


def _decoded(data: str, limits: Limits) -> bytes:
    """The recording's file. Raises Refusal for what is no base64, as an address."""
    most = limits.megabytes * MEGABYTE
    if len(data) * 3 // 4 - 2 > most:
        reason = f"the recording has more than {limits.megabytes} MB, which is the most taken"
        raise Refusal(413, reason, "messages", "too_large")
    try:
        recording = b64decode(data, validate=True)
    except (NoBase64, ValueError) as error:
        reason = "input_audio.data is no base64: give the file's bytes, no address and no path"
        raise Refusal(400, reason, "messages", "invalid_base64") from error
    if not recording:
        raise Refusal(400, "input_audio.data is empty", "messages", "audio_error")
    return recording
