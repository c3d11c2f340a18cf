"""A selection second by second: how much of each second is retained, and which match best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from speechprune_cli.units import clock

if TYPE_CHECKING:
    import numpy as np
    from rich.text import Text

    from speechprune_cli.flow import AudioTokens, Selection

LEVELS = "▁▂▃▄▅▆▇█"
NOTHING = "·"


@dataclass(frozen=True)
class Timeline:
    """What became of each of the `m` seconds of a recording."""

    tokens: np.ndarray  # int `[m]`: tokens whose middle lies in a second
    kept: np.ndarray  # int `[m]`: those of them that are retained
    scores: np.ndarray  # float `[m]`: mean token score; what was never looked at is the lowest
    ranked: bool  # whether the scores of the retained tokens differ, so that some match better

    @classmethod
    def of(cls, tokens: AudioTokens, selection: Selection) -> Timeline:
        """Count and average over the tokens of every second.

        Tokens of no length are padding behind the end of the recording, and lie in no second.
        """
        import numpy as np

        times, kept = tokens.times.numpy(), selection.kept.numpy()
        scores, heard = selection.scores.numpy(), times[:, 1] > times[:, 0]
        finite = np.isfinite(scores)
        scores = np.where(finite, scores, scores[finite].min() if finite.any() else 0.0)
        last = max(int(np.ceil(tokens.seconds)) - 1, 0)
        second = np.floor(times.mean(axis=1)).astype(int).clip(0, last)
        counts = np.bincount(second[heard], minlength=last + 1)
        return cls(
            tokens=counts,
            kept=np.bincount(second[kept][heard[kept]], minlength=len(counts)),
            scores=np.bincount(second[heard], scores[heard], last + 1) / counts.clip(1),
            ranked=len(kept) > 0 and bool(np.ptp(scores[kept]) > 0),
        )

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Timeline:
        """From the JSON fields of a selection (`facts.py`)."""
        import numpy as np

        columns = {
            name: np.array(fields["timeline"][name]) for name in ("tokens", "kept", "scores")
        }
        return cls(**columns, ranked=bool(fields["best_seconds"]))

    @property
    def peak(self) -> float:
        """Share retained of the second that keeps most: the height of a full bar."""
        return float((self.kept / self.tokens.clip(1)).max())

    def best(self, count: int = 5, apart: int = 3) -> list[int]:
        """The seconds that keep most tokens (of equals, those that score higher), best first.

        They are at least `apart` from each other and keep at least half as many as the best, so
        that tokens spread evenly between passages are no matches. Empty where the method gave the
        retained tokens no order.
        """
        import numpy as np

        best: list[int] = []
        if not self.ranked:
            return best
        for second in np.lexsort((-self.scores, -self.kept)).tolist():
            if 2 * self.kept[second] < self.kept.max():
                break
            if len(best) < count and all(abs(second - other) >= apart for other in best):
                best.append(second)
        return best


def draw(timeline: Timeline, seconds: float, width: int) -> Text:
    """The timeline as two lines of `width` columns: what is retained, and the best matches.

    A full bar is the second that keeps most, so that high rates show something too.
    """
    from rich.text import Text

    start, end = clock(0) + " ", " " + clock(seconds)
    columns = max(width - len(start) - len(end), 10)
    text = Text(no_wrap=True)
    text.append(start, "dim")
    for share in shares(timeline, columns) / (timeline.peak or 1.0):
        if share:
            text.append(LEVELS[min(int(share * len(LEVELS)), len(LEVELS) - 1)], "cyan")
        else:
            text.append(NOTHING, "dim")
    text.append(end, "dim")
    marks = markers(timeline.best(), len(timeline.tokens), columns)
    if marks.strip():
        text.append("\n" + " " * len(start) + marks, "yellow")
    return text


def shares(timeline: Timeline, columns: int) -> np.ndarray:
    """Share of the tokens retained in the seconds under each of `columns` columns."""
    import numpy as np

    edges = np.arange(columns + 1) * len(timeline.tokens) / columns
    first = np.floor(edges[:-1]).astype(int)
    last = np.ceil(edges[1:]).astype(int)
    tokens, kept = (np.append(0, np.cumsum(n)) for n in (timeline.tokens, timeline.kept))
    return (kept[last] - kept[first]) / (tokens[last] - tokens[first]).clip(1)


def markers(best: list[int], seconds: int, columns: int) -> str:
    """One line with a mark and the time under each of the best seconds that finds room."""
    line = [" "] * columns
    for second in best:
        at = int((second + 0.5) * columns / seconds)
        label = f"▲ {clock(second)}"
        if at + len(label) > columns:
            label = f"{clock(second)} ▲"
            at -= len(label) - 1
        room = range(max(at - 2, 0), min(at + len(label) + 2, columns))
        if at >= 0 and all(line[column] == " " for column in room):
            line[at : at + len(label)] = label
    return "".join(line).rstrip()
