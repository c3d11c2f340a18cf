"""What one condition made of one sample: a line of a run, written and read here alone.

A line of `lines.jsonl` is a JSON object with the fields of `Line` under their own names. One that
tells of an answer has all of them but `error`, `f1` on open questions only, `notes` and `unread`
where there are any, `beyond_context` where it is true and `ties` where it is not 0; one that tells
of a failure has those before `error`. The last key, `check`, begins the SHA-256 of the bytes before
it (closed by a brace), so that damage is noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import groupby
from typing import Any, ClassVar, Literal

from speechprune_cli.bench.conditions import Condition
from speechprune_cli.bench.sample import Sample
from speechprune_cli.errors import UsageError
from speechprune_cli.escaping import json_text, printable
from speechprune_cli.methods import Amount, amount_asked

FORMAT = 2  # of the lines, and of the run's folder around them
CHECKED = re.compile(rb'(\{.*), "check": "([0-9a-f]{16})"\}', re.DOTALL)
RARE = ("f1", "notes", "beyond_context", "unread", "ties")  # fields of some answers
STRICT: dict[str, Any] = {"strict": True, "extra": "forbid"}


@dataclass(frozen=True)
class Given:
    """An answer to one rotation of the options."""

    order: tuple[int, ...]  # of the options as shown, by the sample's own numbers, as everywhere
    text: str
    chosen: int | None  # None where a free answer named no option
    probabilities: tuple[float, ...] | None  # in the sample's order; None of free answers

    __pydantic_config__: ClassVar = STRICT


@dataclass(frozen=True, kw_only=True)
class Line:
    """One sample under one condition. Fields from `correct` on are of answers alone."""

    sample: str
    condition: str  # its name in tables, such as `cue 0.2`
    method: str  # with settings of its own: `cue:reach=0`
    rate: float | None = None  # asked for in one of three ways (`methods.Amount`), or in none
    share_asked: float | None = None
    tokens_asked: int | None = None
    status: Literal["ok", "error"]
    error: str = ""  # why there is no answer: never a wrong one
    correct: float | None = 0.0  # share of the rotations answered right; of an open answer 0 or 1;
    # None where nothing was asked, and what was kept is all there is to tell
    right: bool = False  # one verdict over all rotations, for paired tests
    f1: float | None = None  # of open answers: the words in common
    unparsed: int = 0  # rotations whose answer named no option
    answers: tuple[Given, ...] = ()
    audio_sha256: str | None = None  # of the recording's bytes; None in lines of format 1
    audio_seconds: float = 0.0  # length of the recording
    total: int = 0  # N: audio tokens of the whole recording
    budget: int = 0  # B1
    kept: int = 0  # k
    share: float = 0.0  # k / N
    kept_ranges: str | None = None  # which tokens were kept: `0-12,15`; None in lines of format 1
    recall: float | None = None  # share kept of the key sentence's tokens; None where it is unknown
    nominal_times: bool = False  # whether `recall` is by times that the model only guesses
    prompt_tokens: int = 0
    beyond_context: bool = False  # whether that is more than the model was made for
    tflops: float = 0.0  # of the prefill, linear layers alone
    prune_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    unread: str = ""  # letters of the question and options that the model has no tokens for
    ties: int = 0  # tokens, or choices, so nearly as likely as others that an engine may swap them
    notes: tuple[str, ...] = ()  # on the transcript that was read: what was dropped of it, and why

    __pydantic_config__: ClassVar = STRICT

    @classmethod
    def failed(cls, sample: Sample, condition: Condition, reason: str) -> Line:
        """Of an answer that could not be had."""
        error = printable(" ".join(reason.split()))
        return cls(sample=sample.id, **condition.fields, status="error", error=error)

    @property
    def answered(self) -> bool:
        """Whether there is an answer, or none was asked for."""
        return self.status == "ok"

    @property
    def judged(self) -> bool:
        """Whether there is an answer that counts as right or wrong."""
        return self.answered and self.correct is not None

    @property
    def amount(self) -> Amount | None:
        """How much the condition was to keep; None where its method settles that."""
        return amount_asked(self.rate, self.share_asked, self.tokens_asked)

    @property
    def kept_indices(self) -> list[int] | None:
        """Which of the N tokens were kept, in order."""
        return None if self.kept_ranges is None else indices(self.kept_ranges)

    def to_json(self) -> bytes:
        """One line of the file, line break included."""
        names, plain = _names(self.status), asdict(self)
        names += ("f1",) * (self.f1 is not None) + ("notes",) * bool(self.notes)
        names += ("beyond_context",) * self.beyond_context + ("unread",) * bool(self.unread)
        names += ("ties",) * bool(self.ties)
        content = {name: value for name, value in plain.items() if name in names}
        body = json_text(content).encode()
        return b'%s, "check": "%s"}\n' % (body[:-1], _check(body))

    @classmethod
    def from_json(cls, text: bytes, place: str, *, old: bool = False) -> Line:
        """What `to_json` wrote; `old`: a line of format 1, which has no check and fewer fields.

        Raises UsageError that begins with `place` and names the field that is wrong or missing.
        """
        from pydantic import ValidationError

        from speechprune_cli.validation import explain

        body = text if old else _body(text, place)
        try:
            line: Line = _adapter().validate_json(body)
        except ValidationError as error:
            names = [each.name for each in fields(cls)]
            raise UsageError(f"{place}: {explain(error, lambda _: names)}") from error
        if not old and (missing := set(_names(line.status)) - set(json.loads(body))):
            raise UsageError(f"{place}: the key {min(missing)!r} is missing")
        return line


def ranges(kept: Iterable[int]) -> str:
    """`[0, 1, 2, 15]` -> `0-2,15`."""
    runs = groupby(enumerate(kept), lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(group) for _, group in runs)]
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ends)


def indices(text: str) -> list[int]:
    """`0-2,15` -> `[0, 1, 2, 15]`."""
    ends = [part.partition("-") for part in text.split(",") if part]
    return [i for first, _, last in ends for i in range(int(first), int(last or first) + 1)]


def _names(status: str) -> tuple[str, ...]:
    """What a line of that status always has."""
    names = tuple(each.name for each in fields(Line))
    if status == "error":
        return names[: names.index("error") + 1]
    return tuple(name for name in names if name not in ("error", *RARE))


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _body(text: bytes, place: str) -> bytes:
    """The line without its check. Raises UsageError where the two do not agree."""
    found = CHECKED.fullmatch(text)
    if not found:
        raise UsageError(f"{place}: not what a run writes: the key 'check' is missing at its end")
    body = found[1] + b"}"
    if _check(body) != found[2]:
        raise UsageError(
            f"{place}: damaged, its key 'check' says: delete the line, and --resume asks it again"
        )
    return body


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Line)
