"""What servers answer, read: a piece of an answer as it is written, or log-probabilities."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from speechprune_cli.backends.decoding import Generation
from speechprune_cli.errors import ServerError
from speechprune_cli.flow import Answer

TOKEN = "token_id:"  # noqa: S105 - what vLLM writes in front of a token's number


class _Strict(BaseModel):
    """Fields of JSON that are of these types, or are not there; others are left out."""

    model_config = ConfigDict(strict=True)


def _number(told: float) -> float:
    if math.isnan(told):
        raise ValueError("not a number")
    return told


Logprob = Annotated[float, AfterValidator(_number)] | None
"""None is minus infinity, which JSON cannot write."""


class _Likely(_Strict):
    token: str
    logprob: Logprob


class _Written(_Likely):
    top_logprobs: list[_Likely] | None = None


class _Logprobs(_Strict):
    content: list[_Written] | None = None  # of chats
    tokens: list[str] | None = None  # of completions
    token_logprobs: list[Logprob] | None = None
    top_logprobs: list[dict[str, Logprob] | None] | None = None

    def tops(self) -> tuple[dict[str, float], ...]:
        """At each token, the likeliest and itself."""
        if self.content:
            told = [
                [(each.token, each.logprob) for each in (*(written.top_logprobs or ()), written)]
                for written in self.content
            ]
        else:
            rows = (self.tokens or (), self.token_logprobs or (), self.top_logprobs or ())
            told = [
                [*(top or {}).items(), (token, value)]
                for token, value, top in zip(*rows, strict=False)
            ]
        return tuple({name: value for name, value in each if value is not None} for each in told)


class _Said(_Strict):
    content: str | None = None


Token = Annotated[int, Field(ge=0, lt=2**31)]


class _Choice(_Strict):
    text: str | None = None  # of completions
    message: _Said | None = None  # of chats
    delta: _Said | None = None  # of chats that are streamed
    token_ids: list[Token] | None = None
    prompt_token_ids: list[Token] | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Usage(_Strict):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Event(_Strict):
    choices: list[_Choice]
    prompt_token_ids: list[Token] | None = None
    usage: _Usage | None = None


@dataclass(frozen=True)
class Piece:
    """Some tokens of an answer, in completions as in chats, streamed or not."""

    text: str
    ids: tuple[int, ...] | None  # None where the server tells none
    tops: tuple[Mapping[str, float], ...]  # log-probabilities at each, by the token's name
    finish: str | None  # why it ended, with the last piece
    prompt_ids: Sequence[int] | None  # what was read, where that is told
    prompt_count: int | None  # how many tokens were read, likewise
    count: int | None  # tokens of the whole answer, likewise

    @classmethod
    def read(cls, told: Any) -> Self:
        """Raises ServerError for what is none."""
        try:
            event = _Event.model_validate(told)
        except ValidationError as error:
            raise ServerError(f"the server's answer is no completion: {told!r:.80}") from error
        choice = event.choices[0] if event.choices else _Choice()
        said, usage = choice.message or choice.delta or _Said(), event.usage or _Usage()
        return cls(
            text=choice.text or said.content or "",
            ids=None if choice.token_ids is None else tuple(choice.token_ids),
            tops=() if choice.logprobs is None else choice.logprobs.tops(),
            finish=choice.finish_reason,
            prompt_ids=event.prompt_token_ids or choice.prompt_token_ids,
            prompt_count=usage.prompt_tokens,
            count=usage.completion_tokens,
        )


def gap(top: Mapping[str, float]) -> float:
    """How much likelier the first of two tokens is than the second."""
    first, second, *_ = (*sorted(top.values(), reverse=True), float("-inf"), float("-inf"))
    return first - second


@dataclass
class Writing:
    """An answer as its pieces come: by its tokens where a server tells them, else by its text."""

    growing: Generation
    tie: float  # a gap that is less is one
    start: float = field(default_factory=time.perf_counter)
    first: float | None = None  # seconds until it began
    text: str = ""
    pieces: int = 0
    count: int | None = None
    finish: str | None = None
    ties: int = 0

    def add(self, piece: Piece) -> None:
        """Take a piece in, and pass its text on."""
        if self.first is None and (piece.ids or piece.text):
            self.first = time.perf_counter() - self.start
        self.finish, self.count = piece.finish or self.finish, piece.count or self.count
        self.ties += sum(gap(top) < self.tie for top in piece.tops)
        for token in piece.ids or ():
            self.growing.append(token)
        if piece.ids is None and piece.text:
            self.text, self.pieces = self.text + piece.text, self.pieces + 1
            if self.growing.on_text is not None:
                self.growing.on_text(piece.text)

    def answer(self) -> Answer:
        """All of it; what memory it took, the server does not tell."""
        seconds = time.perf_counter() - self.start
        first = seconds if self.first is None else self.first
        if self.pieces:
            text, count, finished = self.text.strip(), self.count or self.pieces, False
        else:
            text, count = self.growing.close(), len(self.growing.ids)
            finished = self.growing.finished
        finished = finished or self.finish == "stop"
        return Answer(text, None, count, finished, first, seconds - first, 0, self.ties)
