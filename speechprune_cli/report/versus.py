"""One method of a run against all others: differences of accuracy and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechprune_cli.report.tables import DASH

if TYPE_CHECKING:
    from rich.table import Table

    from speechprune_cli.bench.metrics import Duel


def caption(method: str) -> str:
    """What the cells mean."""
    return (
        f"Accuracy of {method} less that of each other method, in points, at the same pruning rate "
        "or at none; in brackets the exact two-sided McNemar p on the samples both answered, not "
        "corrected for the number of tests."
    )


def cells(duels: Sequence[Duel], method: str) -> list[list[str]]:
    """A header, then a line for each rival, a column for each rate."""
    rates = sorted({duel.rate for duel in duels})
    found = {(duel.rival.partition(" ")[0], duel.rate): duel for duel in duels}
    rivals = dict.fromkeys(rival for rival, _ in found)
    return [
        [f"{method} against", *(f"rate {rate:g}" for rate in rates)],
        *([rival, *(_cell(found.get((rival, rate))) for rate in rates)] for rival in rivals),
    ]


def _cell(duel: Duel | None) -> str:
    if duel is None:
        return DASH
    chance = "<0.001" if duel.p < 0.001 else f"{duel.p:.3f}"
    return f"{100 * duel.difference:+.1f} ({chance})"


def table(duels: Sequence[Duel], method: str) -> Table:
    """For a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    header, *body = cells(duels, method)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, caption=caption(method))
    for number, name in enumerate(header):
        drawn.add_column(name, justify="right" if number else "left")
    for line in body:
        drawn.add_row(*line)
    return drawn


def markdown(duels: Sequence[Duel], method: str) -> str:
    """For a page."""
    header, *body = [f"| {' | '.join(line)} |" for line in cells(duels, method)]
    rule = "|---|" + "---:|" * (len(cells(duels, method)[0]) - 1)
    return "\n".join([header, rule, *body, "", caption(method)]) + "\n"


def plain(duels: Sequence[Duel], method: str) -> str:
    """For a pipe."""
    lines = ["\t".join(line) for line in cells(duels, method)]
    return "\n".join([*lines, "", caption(method)]) + "\n"
