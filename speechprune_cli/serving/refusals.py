"""What a request is refused with: an HTTP status, and an error body as OpenAI's.

exception           status  code               meaning
Refusal             its own its own            malformed, too large, busy, stopping, no key
UsageError             400  usage_error        a wrong question, option or setting
TooLongError           413  too_long_error     a recording of more seconds than are taken
AudioError             400  audio_error        a recording that cannot be read
OutOfMemoryError       503  out_of_memory      too much for this machine, alone
NumericError           500  numeric_error      the model computed no numbers
ServerError            502  reader_error       whoever reads the prompts does not answer
ModelError             503  model_error        a part of the model or method is missing
SpeechPruneError       500  failed             anything else that has a line of its own
any other              500  internal_error     a mistake in this program
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speechprune_cli.errors import (
    AudioError,
    ModelError,
    NumericError,
    OutOfMemoryError,
    ServerError,
    SpeechPruneError,
    TooLongError,
    UsageError,
)
from speechprune_cli.escaping import line_of

INVALID, FAILED = "invalid_request_error", "server_error"


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 - it is no error of this program
    """Why a request gets no answer."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    kind: str = INVALID
    retry_after: int | None = None  # seconds

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        told = {
            "message": line_of(self.message),
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return {"error": told}

    @property
    def headers(self) -> dict[str, str]:
        """When to try again; or that it would not help, which OpenAI's clients heed."""
        if self.retry_after is not None:
            return {"Retry-After": str(self.retry_after)}
        return {"x-should-retry": "false"} if self.status >= 500 else {}


KINDS: dict[type[SpeechPruneError], tuple[int, str, str]] = {  # the first that fits
    UsageError: (400, "usage_error", INVALID),
    TooLongError: (413, "too_long_error", INVALID),
    AudioError: (400, "audio_error", INVALID),
    OutOfMemoryError: (503, "out_of_memory", FAILED),
    NumericError: (500, "numeric_error", FAILED),
    ServerError: (502, "reader_error", FAILED),
    ModelError: (503, "model_error", FAILED),
    SpeechPruneError: (500, "failed", FAILED),
}
PARAMS = {"usage_error": None, "too_long_error": "messages", "audio_error": "messages"}


def refusal_of(error: BaseException) -> Refusal:
    """What a client is told of an error: of one of ours its line, of others nothing."""
    if isinstance(error, Refusal):
        return error
    for kind, (status, code, type_) in KINDS.items():
        if isinstance(error, kind):
            return Refusal(status, str(error), PARAMS.get(code), code, type_)
    return Refusal(500, "the server made a mistake", None, "internal_error", FAILED)


def error_of(status: int, error: dict[str, Any]) -> SpeechPruneError:
    """The exception that an error body was made of, for a client of ours."""
    message = str(error.get("message", f"the server answered with the status {status}"))
    for kind, (_, code, _) in KINDS.items():
        if code == error.get("code"):
            return kind(message)
    return UsageError(message) if status in (400, 404, 413) else ServerError(message)
