"""What of a transcript was read: the kept text, with the times at which it was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechprune_cli.units import clock

if TYPE_CHECKING:
    from rich.text import Text

    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.flow import AudioTokens, Selection


@dataclass(frozen=True)
class Passage:
    """Retained tokens in a row."""

    start: float  # seconds of the recording
    end: float
    text: str


def passages(model: SpeechLM, tokens: AudioTokens, selection: Selection) -> list[Passage]:
    """Every run of retained tokens, in order; none where tokens are not those of words."""
    import numpy as np

    kept = selection.kept.numpy()
    if tokens.ids is None or not len(kept):
        return []
    runs = np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1)
    return [
        Passage(
            start=round(float(tokens.times[run[0], 0]), 3),
            end=round(float(tokens.times[run[-1], 1]), 3),
            text=model.text_of(tokens.ids[run].tolist()).strip(),
        )
        for run in runs
    ]


def passages_text(found: list[Passage]) -> Text:
    """A line a passage, its times first."""
    from rich.text import Text

    text = Text()
    for passage in found:
        text.append(f"{clock(passage.start)}-{clock(passage.end)}  ", "cyan")
        text.append(f"{passage.text}\n")
    text.rstrip()
    return text
