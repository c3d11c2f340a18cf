"""Several runs side by side: the accuracy of every condition, a column for each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechprune_cli.report.tables import DASH, Results, control_cells, heading, percent

if TYPE_CHECKING:
    from rich.table import Table


CAPTION = "Accuracy in percent with its 95% Wilson interval."


def compared(runs: Sequence[Results]) -> list[list[str]]:
    """A header, then a line per condition and control that any run has."""
    parts = [[_conditions(run) for run in runs], [_controls(run) for run in runs]]
    header = ["condition", *(f"{run.model}: {heading(run)}, n = {run.n_samples:,}" for run in runs)]
    return [
        header,
        *(
            [name, *(run.get(name, DASH) for run in cells)]
            for cells in parts
            for name in dict.fromkeys(name for run in cells for name in run)
        ),
    ]


def table(runs: Sequence[Results]) -> Table:
    """For a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    header, *body = compared(runs)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, caption=CAPTION)
    for number, name in enumerate(header):
        drawn.add_column(name, justify="right" if number else "left", vertical="bottom")
    for cells in body:
        drawn.add_row(*cells)
    return drawn


def markdown(runs: Sequence[Results]) -> str:
    """For a page."""
    header, *body = [f"| {' | '.join(cells)} |" for cells in compared(runs)]
    rule = "|---|" + "---:|" * len(runs)
    return "\n".join(["### Runs side by side", "", header, rule, *body, "", CAPTION]) + "\n"


def plain(runs: Sequence[Results]) -> str:
    """For a pipe."""
    return "\n".join([*("\t".join(cells) for cells in compared(runs)), "", CAPTION]) + "\n"


def _conditions(run: Results) -> dict[str, str]:
    return {
        row.condition: percent(row.accuracy, row.low, row.high)
        + (f", {row.errors} errors" if row.errors else "")
        for row in run.rows
        if row.accuracy is not None and row.low is not None and row.high is not None
    }


def _controls(run: Results) -> dict[str, str]:
    return {control.name: control_cells(control)[2] for control in run.controls}
