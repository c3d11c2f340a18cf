"""Accuracies of all methods of a run under each other, rate by rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechprune_cli.bench.results import Results
from speechprune_cli.methods import Amount
from speechprune_cli.report.figures import KEPT, TEXT, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from speechprune_cli.bench.metrics import Row

ACROSS = 3  # panels beside each other
UNPRUNED = "#555555"


def forest(run: Results, method: str, path: Path) -> None:
    """Draw a panel per amount, best on top; `method` is marked, its interval runs through all.

    Raises `SpeechPruneError` where the file cannot be written.
    """
    from matplotlib.figure import Figure

    own = [row for row in run.rows if row.method == method and row.amount]
    own.sort(key=lambda row: row.rate or 0)
    panels = [_rows(run, row.amount) for row in own]
    across = min(len(own), ACROSS)
    down = -(-len(own) // across)
    size = 3.2 * across + 0.6, (0.17 * max(map(len, panels)) + 0.8) * down + 0.4
    figure = Figure(figsize=size, layout="constrained")
    for number, (rows, row) in enumerate(zip(panels, own, strict=True), start=1):
        axes = figure.add_subplot(down, across, number)
        _panel(axes, rows, method)
        axes.set_title(row.asked, loc="left", fontsize=9)
    figure.suptitle(run.heading, x=0.01, ha="left", fontsize=10, fontweight="bold")
    write(figure, path)


def _rows(run: Results, amount: Amount | None) -> list[Row]:
    found = [row for row in run.rows if row.amount in (amount, None) and row.accuracy is not None]
    return sorted(found, key=lambda row: row.accuracy or 0)


def _panel(axes: Axes, rows: list[Row], method: str) -> None:
    for place, row in enumerate(rows):
        at, low, high = (100 * (value or 0) for value in (row.accuracy, row.low, row.high))
        colour = TEXT if row.method == method else UNPRUNED if row.amount is None else KEPT
        axes.plot([low, high], [place, place], color=colour, linewidth=1.2)
        axes.plot(at, place, "o", color=colour, markersize=4)
        if row.method == method:
            axes.axvspan(low, high, color=TEXT, alpha=0.08, linewidth=0)
    names = [row.method if row.amount else row.condition for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set(xlabel="accuracy (%), 95% interval", xlim=(0, 100))
    axes.grid(axis="x", color="#e6e8eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
