"""One method of a run against all others: differences of accuracy and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechprune_cli.bench.metrics import Duel, Line, Row, duels, summarise
from speechprune_cli.report.tables import DASH, percent

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Versus:
    """A method, its own rows, one per rate, and its duels at these rates."""

    method: str
    rows: tuple[Row, ...]
    duels: tuple[Duel, ...]

    @classmethod
    def of(cls, lines: Sequence[Line], method: str) -> Versus:
        """From the lines of a run; nothing of a method that it does not have."""
        rows = [row for row in summarise(lines) if row.method == method and row.rate is not None]
        rows.sort(key=lambda row: row.rate or 0)
        return cls(method, tuple(rows), tuple(duels(lines, method)))

    @property
    def caption(self) -> str:
        """What the cells mean."""
        return (
            f"First line: accuracy of {self.method} in percent, with its 95% Wilson interval. "
            "Below: that less the accuracy of each other method, in points, at the same pruning "
            "rate or at none; in brackets the exact two-sided McNemar p on the samples both "
            "answered, not corrected for the number of tests."
        )


def cells(versus: Versus) -> list[list[str]]:
    """A header, the method's own line, then a line for each rival; a column for each rate."""
    found = {
        (duel.rival.rpartition(" ")[0] or duel.rival, duel.rate): duel for duel in versus.duels
    }
    rivals = dict.fromkeys(rival for rival, _ in found)
    rates = [row.rate or 0.0 for row in versus.rows]
    return [
        [f"{versus.method} against", *(f"rate {rate:g}" for rate in rates)],
        ["(itself)", *map(_own, versus.rows)],
        *([rival, *(_cell(found.get((rival, rate))) for rate in rates)] for rival in rivals),
    ]


def _own(row: Row) -> str:
    if row.accuracy is None or row.low is None or row.high is None:
        return DASH
    return percent(row.accuracy, row.low, row.high)


def _cell(duel: Duel | None) -> str:
    if duel is None:
        return DASH
    chance = "<0.001" if duel.p < 0.001 else f"{duel.p:.3f}"
    return f"{100 * duel.difference:+.1f} ({chance})"


def table(versus: Versus) -> Table:
    """For a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    header, *body = cells(versus)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, caption=versus.caption)
    for number, name in enumerate(header):
        drawn.add_column(name, justify="right" if number else "left")
    for line in body:
        drawn.add_row(*line)
    return drawn


def markdown(versus: Versus) -> str:
    """For a page."""
    header, *body = [f"| {' | '.join(line)} |" for line in cells(versus)]
    rule = "|---|" + "---:|" * len(versus.rows)
    return "\n".join([header, rule, *body, "", versus.caption]) + "\n"


def plain(versus: Versus) -> str:
    """For a pipe."""
    return "\n".join([*("\t".join(line) for line in cells(versus)), "", versus.caption]) + "\n"
