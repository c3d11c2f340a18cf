"""What servers answer, read: a piece of an answer as it is written, or log-probabilities."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from speechprune_cli.backends.decoding import Generation
from speechprune_cli.errors import ServerError
from speechprune_cli.flow import Answer

TOKEN = "token_id:"  # noqa: S105 - what vLLM writes in front of a token's number


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
    def read(cls, event: Any) -> Self:
        """Raises ServerError for what is none."""
        try:
            choice: dict[str, Any] = next(iter(event["choices"]), {})
            said = choice.get("message") or choice.get("delta") or {}
            ids, usage = choice.get("token_ids"), event.get("usage") or {}
            return cls(
                text=choice.get("text") or said.get("content") or "",
                ids=None if ids is None else tuple(ids),
                tops=_tops(choice.get("logprobs") or {}),
                finish=choice.get("finish_reason"),
                prompt_ids=event.get("prompt_token_ids") or choice.get("prompt_token_ids"),
                prompt_count=usage.get("prompt_tokens"),
                count=usage.get("completion_tokens"),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ServerError(f"the server's answer is no completion: {event!r:.80}") from error


def _tops(told: Mapping[str, Any]) -> tuple[dict[str, float], ...]:
    """As chats tell them, a list of tokens each with its likeliest, or as completions do."""
    if content := told.get("content"):
        return tuple(
            {each["token"]: each["logprob"] for each in (*token["top_logprobs"], token)}
            for token in content
        )
    rows = zip(
        told.get("tokens") or (),
        told.get("token_logprobs") or (),
        told.get("top_logprobs") or (),
        strict=False,
    )
    return tuple({**(top or {}), token: value} for token, value, top in rows)


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
