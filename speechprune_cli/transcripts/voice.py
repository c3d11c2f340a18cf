"""Where somebody speaks in a recording, in windows of a length that Whisper reads at once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from speechprune_cli.flow import SAMPLE_RATE, Word
from speechprune_cli.transcripts.timing import MILLISECONDS

BLOCK_SECONDS = 120  # looked at at once: what a kill loses; 240 s are no faster
WINDOW_SECONDS = 28  # Whisper's own are 30 s; with 20 s, more sentences are cut
PAUSE_SECONDS = 0.16  # parts two spans; with 0.5 s, more sentences end where none does (9%, not 6%)
PAD_SECONDS = 0.2  # kept on both sides of a span; 0.4 s: 96% of the sentences' ends, not 99%

Span = tuple[int, int]  # the first sample, and the one behind the last


@dataclass(frozen=True)
class Window:
    """Spans of speech that are recognised together, the pauses between them shortened."""

    spans: tuple[Span, ...]

    @property
    def times(self) -> tuple[float, float]:
        """Where it begins and ends in the recording, in seconds."""
        return self.spans[0][0] / SAMPLE_RATE, self.spans[-1][1] / SAMPLE_RATE

    def cut(self, samples: np.ndarray) -> np.ndarray:
        """Its sound, float32 `[n]`, from that of the whole recording."""
        return np.concatenate([samples[start:end] for start, end in self.spans])

    def placed(self, text: str, start: float, end: float) -> Word:
        """A word at the time that it has in the recording, from that in the window."""
        at, middle = 0, (start + end) / 2 * SAMPLE_RATE
        for span in self.spans:
            length = span[1] - span[0]
            if middle < at + length or span is self.spans[-1]:
                break
            at += length
        places = (span[0] - at + time * SAMPLE_RATE for time in (start, end))
        times = (min(max(place, span[0]), span[1]) / SAMPLE_RATE for place in places)
        return Word(text, *(round(time, MILLISECONDS) for time in times))


def next_block(samples: np.ndarray, begin: int) -> tuple[list[Window], int]:
    """The windows of a block from the sample `begin` on, and where the next one begins.

    What follows depends on `begin` alone, so that it can be gone on with from there.
    """
    block = samples[begin : begin + BLOCK_SECONDS * SAMPLE_RATE]
    spans = [(begin + start, begin + end) for start, end in _speech(block)]
    end = begin + len(block)
    if end < len(samples) and len(spans) > 1 and spans[-1][1] == end:  # somebody is speaking
        end = spans.pop()[0]
    return windows_of(spans), end


def _speech(block: np.ndarray) -> list[Span]:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        min_silence_duration_ms=round(PAUSE_SECONDS * 1000),
        speech_pad_ms=round(PAD_SECONDS * 1000),
        max_speech_duration_s=WINDOW_SECONDS,
    )
    return [(span["start"], span["end"]) for span in get_speech_timestamps(block, options)]


def windows_of(spans: Sequence[Span]) -> list[Window]:
    """As long as they may be, but cut at the longest pause of their second half."""
    windows: list[Window] = []
    at = 0
    while at < len(spans):
        ends = list(accumulate(end - start for start, end in spans[at:]))
        fit = max(1, bisect_right(ends, WINDOW_SECONDS * SAMPLE_RATE))
        if at + fit < len(spans):
            half = bisect_left(ends, WINDOW_SECONDS * SAMPLE_RATE / 2) + 1
            cuts = range(min(half, fit), fit + 1)
            fit = max(cuts, key=lambda n: (spans[at + n][0] - spans[at + n - 1][1], n))
        windows.append(Window(tuple(spans[at : at + fit])))
        at += fit
    return windows
