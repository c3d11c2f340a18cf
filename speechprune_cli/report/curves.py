"""Accuracy and key-sentence recall over the pruning rate, method by method, run beside run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, pairwise
from math import nan
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from speechprune_cli.bench.metrics import Row
from speechprune_cli.bench.results import Results
from speechprune_cli.pruners import PRUNERS
from speechprune_cli.report.figures import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from speechprune_cli.methods import Amount

    Styles = dict[str, dict[str, Any]]

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d31", "#7f3c8d")
MARKERS = "os^Dv<>P"
LINES = ("-", "--", ":")  # once the colours are used up, the next round has these, and other marks
REFERENCES: tuple[dict[str, Any], ...] = (
    {"color": "#222222", "linestyle": "-"},
    {"color": "#555555", "linestyle": (0, (5, 2))},
    {"color": "#999999", "linestyle": (0, (1, 1.5))},
)
"""What keeps no given amount is a level across the figure; in the order of the run."""
SHARE = "share kept: what a blind choice recalls"
BLIND: dict[str, Any] = {"color": "#222222", "linestyle": (0, (2, 2)), "linewidth": 1.3}


def curves(runs: Sequence[Results], path: Path) -> None:
    """Draw every run in a column of its own; one alone has its two panels side by side.

    Recall is left out where no run knows its key sentences. Raises `SpeechPruneError` where the
    file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = {"accuracy (%)": _accuracy}
    if any(row.recall is not None for run in runs for row in _pruned(run)):
        panels["key-sentence recall (%)"] = _recall
    down, across = (1, len(panels)) if len(runs) == 1 else (len(panels), len(runs))
    size = max(4.4 * across, 5.2), 3.6 * down + 0.9
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    grid = figure.subplots(down, across, squeeze=False)
    columns = grid if len(runs) == 1 else grid.T
    methods = styles(dict.fromkeys(row.method for run in runs for row in _pruned(run)))
    for run, column in zip(runs, columns, strict=True):
        for (name, draw), axes in zip(panels.items(), column, strict=True):
            draw(axes, run, methods)
            _dress(axes, run, name)
        column[0].set_title(fill(run.heading, 50), loc="left", fontsize=10, fontweight="bold")
    _legend(figure, grid.flat)
    write(figure, path)


def styles(methods: Iterable[str]) -> Styles:
    """Colour and mark of each method, the same in every figure.

    The first is drawn strongest and on top: what the others are compared with.
    """
    methods = list(methods)
    order = list(dict.fromkeys((*PRUNERS.names, *methods)))
    return {name: _style(order.index(name), first=name == methods[0]) for name in methods}


def _style(number: int, *, first: bool) -> dict[str, Any]:
    again = number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[(number + again) % len(MARKERS)],
        "linestyle": LINES[again % len(LINES)],
        "linewidth": 2.2 if first else 1.4,
        "markersize": 6 if first else 4.5,
        "zorder": 4 if first else 3,
    }


def _pruned(run: Results) -> list[Row]:
    """Rows that lie on a curve, the least pruned first."""
    rows = [row for row in run.rows if row.amount and row.n]
    return sorted(rows, key=lambda row: _place(run, row))


def _rated(run: Results) -> bool:
    """Whether all amounts are rates, and the axis theirs."""
    return all(row.rate is not None for row in run.rows if row.amount)


def _place(run: Results, row: Row) -> float:
    """Of a row on the axis: its rate, or how much of the recording is dropped."""
    return row.rate if row.rate is not None and _rated(run) else round(1 - (row.share or 0), 3)


def _percent(values: Iterable[float | None]) -> list[float]:
    """With gaps where there is nothing to draw."""
    return [nan if value is None else 100 * value for value in values]


def _accuracy(axes: Axes, run: Results, methods: Styles) -> None:
    references = [row for row in run.rows if row.amount is None]
    for row, style in zip(references, cycle(REFERENCES)):
        if row.n:
            at, low, high = _percent((row.accuracy, row.low, row.high))
            axes.axhspan(low, high, color=style["color"], alpha=0.09, linewidth=0)
            axes.axhline(at, linewidth=1.3, label=row.condition, **style)
    apart = _gap(run) * 0.35 / max(len(methods), 1)
    for number, (method, style) in enumerate(methods.items()):
        rows = [row for row in _pruned(run) if row.method == method]
        if rows:
            shift = (number - (len(methods) - 1) / 2) * apart
            rates = [_place(run, row) + shift for row in rows]
            values = _percent(row.accuracy for row in rows)
            axes.plot(rates, values, label=method, **style)
            lows, highs = _percent(row.low for row in rows), _percent(row.high for row in rows)
            axes.vlines(rates, lows, highs, color=style["color"], linewidth=1)


def _gap(run: Results) -> float:
    """The smallest between two amounts."""
    rates = sorted({_place(run, row) for row in _pruned(run)})
    return min((after - before for before, after in pairwise(rates)), default=0.2)


def _recall(axes: Axes, run: Results, methods: Styles) -> None:
    rows = [row for row in _pruned(run) if row.recall is not None]
    if not rows:
        unknown = "the key sentences are not known"
        axes.text(0.5, 0.5, unknown, transform=axes.transAxes, ha="center", color="#777777")
        return
    for method, style in methods.items():
        found = {_place(run, row): row.recall for row in rows if row.method == method}
        if found:
            axes.plot(list(found), _percent(found.values()), label=method, **style)
    shares = {_place(run, row): row.share for row in rows}
    axes.plot(list(shares), _percent(shares.values()), label=SHARE, marker="_", zorder=5, **BLIND)


def _dress(axes: Axes, run: Results, name: str) -> None:
    rows = _pruned(run)
    rated = _rated(run)
    places = {_place(run, row): _tick(row.amount, rated) for row in rows if row.amount}
    if places:
        room = _gap(run) * 0.3
        axes.set_xlim(min(places) - room, max(places) + room)
    axes.set_xticks(list(places), list(places.values()))
    axes.set_ylim(0, 102)
    axes.set(xlabel="pruning rate" if rated else "kept of the recording", ylabel=name)
    axes.grid(axis="y", color="#e6e8eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _tick(amount: Amount, rated: bool) -> str:
    """What the axis' name does not say already."""
    return amount.words if amount.rate is not None and not rated else amount.label


def _legend(figure: Figure, grid: Iterable[Axes]) -> None:
    """One for all panels, below them."""
    found: dict[str, Any] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    shown, across = (found.values(), found.keys()), min(len(found), 5)
    figure.legend(*shown, loc="outside lower center", ncols=across, frameon=False, fontsize=9)
