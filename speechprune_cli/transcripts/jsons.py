"""Transcripts as JSON: our own, which loses nothing, and those that Whisper's tools write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from speechprune_cli.errors import UsageError, one_line
from speechprune_cli.flow import Transcript, Word
from speechprune_cli.transcripts.timing import follows, in_order, spread
from speechprune_cli.transcripts.transcript import sentences_of
from speechprune_cli.validation import explain

T = TypeVar("T")
SHOWN = "sentences"  # the key that only our own format has


@dataclass(frozen=True)
class WhisperWord:
    """WhisperX leaves out the times of numbers."""

    word: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class WhisperSegment:
    """As openai-whisper, faster-whisper and WhisperX name things."""

    start: float
    end: float
    text: str
    words: list[WhisperWord] | None = None


@dataclass(frozen=True)
class WhisperFile:
    """All that is read of one."""

    segments: list[WhisperSegment]
    language: str | None = None


def as_json(transcript: Transcript) -> dict[str, Any]:
    """What `read_json` reads, with each sentence's text and times for people."""
    return {
        "language": transcript.language,
        "sure": transcript.sure,
        "seconds": round(transcript.seconds, 3),
        "origin": transcript.origin,
        "notes": list(transcript.notes),
        SHOWN: [
            {
                "start": sentence.start,
                "end": sentence.end,
                "text": sentence.text,
                "words": [vars(word) for word in sentence.words],
            }
            for sentence in transcript.sentences
        ],
    }


def read_json(text: str, name: str, origin: str) -> Transcript:
    """Our own or Whisper's. Raises UsageError, which names the key or the line that is wrong."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{name}, line {error.lineno}: not JSON: {error.msg}") from error
    except ValueError as error:
        raise UsageError(f"{name}: not JSON: {one_line(error)}") from error
    except RecursionError as error:
        raise UsageError(f"{name}: not a transcript: its JSON is nested too deep") from error
    if "\\ud" in text.lower() and not _writable(content):
        raise UsageError(f"{name}: holds half a character (a lone surrogate)")
    if isinstance(content, list):  # faster-whisper's segments, dumped as they come
        content = {"segments": content}
    if not isinstance(content, dict) or not {SHOWN, "segments"} & set(content):
        keys = "neither 'sentences' (ours) nor 'segments' (Whisper's)"
        raise UsageError(f"{name}: not a transcript: it holds {keys}")
    if SHOWN in content:
        transcript = _checked(Transcript, content, name)
        if not all(sentence.words for sentence in transcript.sentences):
            raise UsageError(f"{name}: a sentence holds no word")
        _check_times("word", transcript.words, name)
        return transcript
    found = _checked(WhisperFile, content, name)
    _check_times("segment", found.segments, name)
    words = [word for segment in found.segments for word in _segment_words(segment)]
    if any(not (isfinite(word.start) and isfinite(word.end)) for word in words):
        raise UsageError(f"{name}: the time of a word is no number")
    return Transcript(sentences_of(in_order(words)), found.language, origin)


def _writable(content: Any) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _checked(kind: type[T], content: dict[str, Any], name: str) -> T:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise UsageError(f"{name}: {explain(error, lambda _: [])}") from error


def _check_times(what: str, timed: Iterable[Word | WhisperSegment], name: str) -> None:
    latest = 0.0
    for number, each in enumerate(timed, start=1):
        if not (isfinite(each.end) and latest <= each.start <= each.end):
            times = f"{what} {number} ({each.text.strip()!r}, {each.start} to {each.end} s)"
            raise UsageError(f"{name}: times run backwards, or are none: {times}")
        latest = each.start


def _segment_words(segment: WhisperSegment) -> Iterator[Word]:
    """Words without times share what lies between those around them."""
    done, untimed = segment.start, ""
    for text, word in _spelled(segment):
        if word.start is None or word.end is None:
            untimed += text
            continue
        yield from spread(untimed, done, max(done, word.start))
        yield Word(text, word.start, word.end)
        done, untimed = word.end, ""
    yield from spread(untimed, done, max(done, segment.end))


def _spelled(segment: WhisperSegment) -> Iterator[tuple[str, WhisperWord]]:
    """Each word behind the blank that it has in the text; WhisperX writes words without."""
    rest = follows(segment.text)
    for word in segment.words or [WhisperWord(segment.text.strip())]:
        bare, ahead = word.word.strip(), rest.lstrip()
        known = ahead.startswith(bare)
        blank = rest[: len(rest) - len(ahead)] if known else " "
        rest = ahead[len(bare) :] if known else rest
        yield blank + bare, word
