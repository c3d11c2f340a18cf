"""Subtitles: SubRip (`.srt`) and WebVTT (`.vtt`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape, unescape
from itertools import pairwise

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import Sentence, Transcript, Word
from speechprune_cli.transcripts.timing import follows, in_order, spread
from speechprune_cli.transcripts.transcript import sentences_of

CUE_CHARACTERS = 84  # two lines of 42, as broadcasters set them
ROLLING_REPEATS = 3  # lines said again by the next cue that make captions rolling ones
TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d{1,3})?)"
TIMES = re.compile(rf"\s*{TIME}\s*-->\s*{TIME}(?:\s.*)?")
INLINE = re.compile(rf"<{TIME}>")
STYLED = r"[ibus](?:\.[\w.-]+)?|c(?:\.[^<>]*)?|(?:v|lang)(?:[.\s][^<>]*)?|font[^<>]*|ruby|rt"
TAG = re.compile(rf"</?(?:{STYLED})>|\{{\\[^}}]*\}}", re.IGNORECASE)
SPEAKER = re.compile(r"<v[\s.]", re.IGNORECASE)
DASH = re.compile(r"^\s*[-–—]\s+")  # before what another speaker says


@dataclass(frozen=True)
class Cue:
    """What is shown from `start` to `end`, in seconds; `number` is its line in the file."""

    number: int
    start: float
    end: float
    lines: list[str] = field(default_factory=list)


def read_subtitles(text: str, name: str, origin: str) -> Transcript:
    """What a `.srt` or `.vtt` file says. Words share their cue's time by their characters.

    Lines that each cue repeats from the one before (rolling captions) are taken once. Raises
    UsageError, which names the line, for times that cannot be read or run backwards, and for a
    file without a cue.
    """
    if name.lower().endswith(".vtt") and not text.startswith("WEBVTT"):
        raise UsageError(f"{name}: no WebVTT: its first line has to begin with WEBVTT")
    cues = list(_cues(text, name))
    _check_order(cues, name)
    notes = ["the speakers' names in its tags are not read"] if SPEAKER.search(text) else []
    if _rolling(cues):
        cues = list(_without_repeats(cues))
        notes.append("rolling captions: lines that the next cue repeats are taken once")
    words = (word for cue in _apart(cues) for word in _words(cue))
    sentences = sentences_of(in_order(words))
    if not sentences:
        raise UsageError(f"{name}: not a transcript: no cue with times (-->) and words in it")
    return Transcript(sentences, None, origin, tuple(notes))


def _cues(text: str, name: str) -> Iterator[Cue]:
    """A cue ends at an empty line, or where the next one begins."""
    cue: Cue | None = None
    vtt = name.lower().endswith(".vtt")  # where a line of blanks ends no cue
    for number, line in enumerate(text.splitlines(), start=1):
        if "-->" in line:
            if cue:
                yield _without_index(cue)
            cue = Cue(number, *_times(line, f"{name}, line {number}"))
        elif cue and (line if vtt else line.strip()):
            cue.lines.append(line)
        elif cue:
            yield cue
            cue = None
    if cue:
        yield cue


def _without_index(cue: Cue) -> Cue:
    """Where no empty line stands between two cues, the next one's number is no text."""
    return replace(cue, lines=cue.lines[:-1]) if cue.lines and cue.lines[-1].isdigit() else cue


def _times(line: str, where: str) -> tuple[float, float]:
    found = TIMES.fullmatch(line)
    if not found:
        raise UsageError(f"{where}: no times such as 00:01:02,500 --> 00:01:04,000: {line!r}")
    start, end = _seconds(found.groups()[:3]), _seconds(found.groups()[3:])
    if end < start:
        raise UsageError(f"{where}: times run backwards: {line.strip()}")
    return start, end


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds = parts
    return (
        int(hours or 0) * 3600 + int(minutes or 0) * 60 + float((seconds or "0").replace(",", "."))
    )


def _check_order(cues: list[Cue], name: str) -> None:
    for cue, following in pairwise(cues):
        if following.start < cue.start:
            lines = f"the cue in line {following.number} begins before that in line {cue.number}"
            raise UsageError(f"{name}: times run backwards: {lines}")


def _rolling(cues: list[Cue]) -> bool:
    pairs = pairwise(cues)
    repeats = sum(1 for cue, following in pairs if _repeated(_plain(cue), _plain(following)))
    return repeats >= ROLLING_REPEATS and 2 * repeats >= len(cues) - 1


def _without_repeats(cues: list[Cue]) -> Iterator[Cue]:
    shown: list[str] = []
    for cue in cues:
        lines = [line for line in cue.lines if _bare(line)]
        plain = _plain(cue)
        yield replace(cue, lines=lines[_repeated(shown, plain) :])
        shown = plain


def _repeated(shown: list[str], lines: list[str]) -> int:
    """How many of the first `lines` are the last ones `shown` before."""
    longest = min(len(shown), len(lines))
    return next((n for n in range(longest, 0, -1) if shown[-n:] == lines[:n]), 0)


def _plain(cue: Cue) -> list[str]:
    return [bare for line in cue.lines if (bare := _bare(line))]


def _bare(line: str) -> str:
    return " ".join(unescape(TAG.sub("", INLINE.sub("", DASH.sub("", line)))).split())


def _apart(cues: list[Cue]) -> Iterator[Cue]:
    """Cues that overlap (two people at once) end where the next one begins."""
    for cue, following in zip(cues, [*cues[1:], None], strict=False):
        overlaps = following and cue.start < following.start < cue.end
        yield replace(cue, end=following.start) if following and overlaps else cue


def _words(cue: Cue) -> Iterator[Word]:
    """Times inside a cue (`<00:01:02.500>`) hold for the words behind them."""
    text = " ".join(DASH.sub("", line) for line in cue.lines)
    first, *parts = INLINE.split(text)
    starts = [cue.start, *(_seconds(parts[at : at + 3]) for at in range(0, len(parts), 4))]
    ends = [*starts[1:], cue.end]
    for part, start, end in zip([first, *parts[3::4]], starts, ends, strict=True):
        if bare := _bare(part):
            yield from spread(follows(bare), start, max(start, end))


def write_srt(transcript: Transcript) -> str:
    """A numbered cue a sentence, long ones in several."""
    cues = enumerate(_split(transcript.sentences), start=1)
    return "\n".join(
        f"{number}\n{_times_line(cue, ',')}\n{cue.text.replace('-->', '->')}\n"
        for number, cue in cues
    )


def write_vtt(transcript: Transcript) -> str:
    """A cue a sentence, long ones in several."""
    cues = _split(transcript.sentences)
    texts = (f"{_times_line(cue, '.')}\n{escape(cue.text, quote=False)}\n" for cue in cues)
    return "\n".join(["WEBVTT\n", *texts])


def _split(sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Into cues of at most CUE_CHARACTERS, or of one word."""
    for sentence in sentences:
        shown: list[Word] = []
        for word in sentence.words:
            if shown and len(Sentence((*shown, word)).text) > CUE_CHARACTERS:
                yield Sentence(tuple(shown))
                shown = []
            shown.append(word)
        yield Sentence(tuple(shown))


def _times_line(cue: Sentence, point: str) -> str:
    return f"{_stamp(cue.start, point)} --> {_stamp(cue.end, point)}"


def _stamp(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}{point}{milliseconds:03}"
