"""Several runs side by side: the accuracy of every condition, a column for each run."""

from __future__ import annotations

from collections.abc import Sequence

from speechprune_cli.bench.results import Results
from speechprune_cli.bench.tables import accuracy
from speechprune_cli.table import DASH, Row, Table, or_dash
from speechprune_cli.units import interval


def compared(runs: Sequence[Results]) -> Table:
    """A row per condition, then one per control, that any run has."""
    sections = {
        "conditions": [_conditions(run) for run in runs],
        "controls": [_controls(run) for run in runs],
    }
    rows = [
        Row(
            cells=(name, *(run.get(name, DASH) for run in cells)),
            mark="quiet" if section == "controls" else "",
            section=section,
        )
        for section, cells in sections.items()
        for name in dict.fromkeys(name for run in cells for name in run)
    ]
    headers = [f"{run.model}:\n{run.heading},\nn = {run.n_samples:,}" for run in runs]
    notes = ("Accuracy in percent with its 95% Wilson interval.",)
    return Table("runs", "Runs side by side", ("condition", *headers), tuple(rows), notes)


def _conditions(run: Results) -> dict[str, str]:
    return {
        row.condition: or_dash(interval, row.accuracy, row.low, row.high)
        + (f", {row.errors} errors" if row.errors else "")
        for row in run.rows
        if row.n
    }


def _controls(run: Results) -> dict[str, str]:
    return {control.name: interval(*accuracy(control)) for control in run.controls}
