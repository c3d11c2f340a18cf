"""Answers as OpenAI's chat completions have them, whole or in chunks.

Beside OpenAI's fields there is `speechprune`, what `ask --json` gives of the same question
(`report/facts.py`), and `warnings`; the timeline only with `details`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from speechprune_cli.escaping import json_text

if TYPE_CHECKING:
    from speechprune_cli.serving.line import Begun, Done
    from speechprune_cli.serving.request import Request

END = "data: [DONE]\n\n"


@dataclass(frozen=True)
class Replies:
    """Of one request."""

    request: Request
    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, done: Done) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": done.fields["answer"]}
        choice = {"index": 0, "message": message, "finish_reason": _reason(done), "logprobs": None}
        body = self._body("chat.completion", [choice])
        return {**body, "usage": usage(done.fields), "speechprune": self._own(done)}

    def first(self, begun: Begun) -> str:
        """The chunk before all text."""
        remarks = {"remarks": begun.remarks} if self.request.details else {}
        told = {"warnings": warnings(begun), **remarks}
        return self._chunk({"role": "assistant", "content": ""}, speechprune=told)

    def piece(self, text: str) -> str:
        """A chunk of text."""
        return self._chunk({"content": text})

    def last(self, done: Done) -> str:
        """The chunk after all text; if asked for, one more with the usage, and the end."""
        closing = self._chunk({}, reason=_reason(done), speechprune=self._own(done))
        if not self.request.include_usage:
            return closing + END
        body = self._body("chat.completion.chunk", [])
        return closing + event({**body, "usage": usage(done.fields)}) + END

    def _own(self, done: Done) -> dict[str, Any]:
        own = {**done.fields, "warnings": warnings(done)}
        if not self.request.details:
            del own["timeline"]
        return own

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, **own: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        body = self._body("chat.completion.chunk", [choice])
        usage = {"usage": None} if self.request.include_usage else {}
        return event({**body, **usage, **own})

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def event(content: dict[str, Any]) -> str:
    """One of a stream's server-sent events."""
    return f"data: {json_text(content)}\n\n"


def usage(fields: dict[str, Any]) -> dict[str, Any]:
    """Tokens as they were read: of the audio those that were kept, and of text; and generated."""
    prompt = fields["prompt"]
    read = prompt["audio_tokens"] + prompt["text_tokens"]
    return {
        "prompt_tokens": read,
        "completion_tokens": fields["new_tokens"],
        "total_tokens": read + fields["new_tokens"],
        "prompt_tokens_details": {"audio_tokens": prompt["audio_tokens"]},
    }


def warnings(said: Begun | Done) -> list[str]:
    """Those of all remarks."""
    lines = [*said.remarks["recording"], *said.remarks["question"]]
    return [text for level, text in lines if level == "warning"]


def _reason(done: Done) -> str:
    return "stop" if done.fields["finished"] else "length"
