"""Several runs side by side: the accuracy of every condition, a column for each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechprune_cli.report.tables import DASH, Results, control_cells, heading, percent

if TYPE_CHECKING:
    from rich.table import Table


def compared(runs: Sequence[Results]) -> list[list[str]]:
    """A header, then a line per condition and control that any run has."""
    cells = [_accuracies(run) for run in runs]
    names = dict.fromkeys(name for run in cells for name in run)
    header = ["condition", *(f"{run.model}: {heading(run)}" for run in runs)]
    return [header, *([name, *(run.get(name, DASH) for run in cells)] for name in names)]


def table(runs: Sequence[Results]) -> Table:
    """For a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    header, *body = compared(runs)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(header):
        drawn.add_column(name, justify="right" if number else "left", vertical="bottom")
    for cells in body:
        drawn.add_row(*cells)
    return drawn


def markdown(runs: Sequence[Results]) -> str:
    """For a page."""
    header, *body = [f"| {' | '.join(cells)} |" for cells in compared(runs)]
    return "\n".join([header, "|---|" + "---:|" * len(runs), *body]) + "\n"


def plain(runs: Sequence[Results]) -> str:
    """For a pipe."""
    return "\n".join("\t".join(cells) for cells in compared(runs)) + "\n"


def _accuracies(run: Results) -> dict[str, str]:
    rows = {
        row.condition: percent(row.accuracy, row.low, row.high)
        for row in run.rows
        if row.accuracy is not None and row.low is not None and row.high is not None
    }
    return rows | {control.name: control_cells(control)[2] for control in run.controls}
