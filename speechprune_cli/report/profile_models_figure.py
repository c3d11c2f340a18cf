"""Models side by side as a figure: on every scale, from reading the whole to reading the pruned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.costs import GIGA
from speechprune_cli.profiler.compared import called
from speechprune_cli.profiler.setting import LONGEST, Setting
from speechprune_cli.report.figures import KEPT, PRUNED, write
from speechprune_cli.report.profile_models import WAYS, Way, reading_of, ways
from speechprune_cli.units import length, parameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from speechprune_cli.profiler.compared import Compared, Reading

    Value = Callable[[Reading], tuple[float | None, bool]]
    """Of a reading: the number, and whether it stands for a prompt beyond the context."""

WHOLE, LINE, BAND = "#222222", "#8a8f98", "#f3f4f6"
COLOURS: dict[Way, str] = {"whole": WHOLE, "pruned": KEPT}
LIMIT: dict[str, Any] = {"color": LINE, "linewidth": 1, "linestyle": ":", "zorder": 1}
SIZES: dict[Way, float] = {"whole": 8, "pruned": 4.5}  # both are seen where they coincide
TICKS = {60: "1m", 600: "10m", 3600: "1h", LONGEST: "10h+"}  # on the axes of lengths


def draw_models(
    path: Path, setting: Setting, dtype: str, limits: Sequence[float], rows: Sequence[Compared]
) -> None:
    """TFLOPs, KV cache, peak memory, and the longest recording that fits, of every model."""
    from matplotlib.figure import Figure

    costs: dict[str, Value] = {
        "TFLOPs": lambda read: (read.tflops, read.beyond_context),
        "KV cache in GB": lambda read: (read.kv_cache_gb, read.beyond_context),
        f"peak GB in {dtype}": lambda read: (read.gb, read.beyond_context),
    }
    figure = Figure(figsize=(14, 1.7 + 0.3 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(costs) + len(limits), sharey=True)
    for axes, (name, value) in zip(panels, costs.items(), strict=False):
        dumbbells(axes, name, rows, value)
    for limit, axes in zip(limits, panels[len(costs) :], strict=True):
        panels[len(costs) - 1].axvline(limit / GIGA, **LIMIT)
        dumbbells(axes, f"longest in {called(limit)}", rows, fitting(called(limit)))
        axes.set_xticks(list(TICKS), list(TICKS.values()))
        axes.set_xlim(10, 2 * LONGEST)
    name_models(panels[0], rows)
    panels[0].plot([], [], **LIMIT, label=f"{', '.join(map(called, limits))} of memory")
    explain(figure, panels[0], setting, rows)
    write(figure, path)


def fitting(limit: str) -> Value:
    """The longest recording that fits."""

    def value(read: Reading) -> tuple[float | None, bool]:
        return read.longest[limit].seconds, read.longest[limit].beyond_context

    return value


def dumbbells(axes: Axes, name: str, rows: Sequence[Compared], value: Value) -> None:
    """A line for every model, from its value pruned to its value whole."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    for place, row in enumerate(rows):
        if place % 2:
            axes.axhspan(place - 0.5, place + 0.5, color=BAND, linewidth=0, zorder=0)
        dumbbell(axes, place, row, value)
    axes.set_xscale("log")
    axes.set_title(name, loc="left", fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8, left=False)
    axes.grid(axis="x", color=PRUNED, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def dumbbell(axes: Axes, place: int, row: Compared, value: Value) -> None:
    """Both readings of a model, as far as they are known; hollow beyond the context."""
    readings = {way: reading_of(way, row) for way in WAYS}
    ends = {way: value(read) for way, read in readings.items() if read is not None}
    known = {way: (at, beyond) for way, (at, beyond) in ends.items() if at is not None}
    axes.plot([at for at, _ in known.values()], [place] * len(known), color=LINE, linewidth=1.2)
    for way, (at, beyond) in known.items():
        axes.plot(at, place, **dot(way, beyond=beyond))


def dot(way: Way, *, beyond: bool) -> dict[str, Any]:
    """How a reading is drawn: hollow where its prompt is beyond the context."""
    colour = COLOURS[way]
    face = "white" if beyond else colour
    return {
        "marker": "o", "markersize": SIZES[way], "linestyle": "none",
        "markeredgecolor": colour, "markerfacecolor": face,
    }  # fmt: skip


def name_models(axes: Axes, rows: Sequence[Compared]) -> None:
    """The first on top, each with its size."""
    sizes = (f"   {parameters(row.parameters)}" if row.parameters else "" for row in rows)
    names = [row.model + size for row, size in zip(rows, sizes, strict=True)]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def explain(figure: Figure, axes: Axes, setting: Setting, rows: Sequence[Compared]) -> None:
    """The title and the legend."""
    for way in WAYS:
        axes.plot([], [], label=way, **dot(way, beyond=False))
        axes.plot([], [], label=f"{way}, beyond the model's context", **dot(way, beyond=True))
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center", ncols=5, frameon=False, fontsize=8,
    )  # fmt: skip
    title = (
        f"{length(setting.seconds)} of audio, {setting.text_tokens} text tokens, whole and pruned "
        f"({ways(rows)}): counted"
    )
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
