"""What `profile` found, as figures: cost over length, and measured times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.profiler import counted
from speechprune_cli.report.figures import write
from speechprune_cli.report.profile_tables import about
from speechprune_cli.units import length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from speechprune_cli.backends.shape import Shape
    from speechprune_cli.profiler.counted import Growth
    from speechprune_cli.profiler.measured import Measured, Profile
    from speechprune_cli.profiler.setting import Setting

LENGTHS = (*(30 * round(1.25**step) for step in range(32)), 36_000)  # seconds, evenly on a log axis
TICKS = (30, 90, 300, 900, 3600, 10_800, 36_000)
FULL: dict[str, Any] = {"color": "#222222", "linewidth": 2.2}
ENCODER: dict[str, Any] = {"color": "#8a8f98", "linestyle": (0, (1, 1.5)), "linewidth": 1.5}
LIMIT: dict[str, Any] = {"color": "#d6302a", "linestyle": (0, (4, 3)), "linewidth": 1}
IDEAL = "prefill of as many tokens without pruning"
STAGES = {"prune": "#d6302a", "prefill": "#2166ac"}


def draw_growth(
    path: Path, shape: Shape, setting: Setting, dtype: str, memory_limit: float | None
) -> None:
    """Compute and memory over the recording's length, pruned to fixed budgets and not."""
    from matplotlib.figure import Figure

    rows = counted.growth(shape, setting, dtype, LENGTHS)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _compute(left, rows)
    _memory(right, rows, dtype, memory_limit)
    context = counted.context_seconds(shape, setting)
    for axes in (left, right):
        if context < rows[-1].seconds:
            axes.axvline(context, **LIMIT, label="unpruned prompt fills the context")
        _dress(axes)
    title = f"{shape.name}, {setting.text_tokens} text tokens: counted cost over length"
    figure.suptitle(title, fontsize=11)
    shown = left.get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    write(figure, path)


def _compute(axes: Axes, rows: list[Growth]) -> None:
    seconds = [row.seconds for row in rows]
    axes.plot(seconds, [row.full_tflops for row in rows], label="full: prefill", **FULL)
    for name, colour in _colours(rows).items():
        costs = [
            row.pruned[name].prefill_tflops + (row.pruned[name].pruning_tflops or 0) for row in rows
        ]
        known = rows[0].pruned[name].pruning_tflops is not None
        axes.plot(seconds, costs, color=colour, label=name if known else f"{name}, prefill alone")
    encoder = [row.encoder for row in rows]
    axes.plot(seconds, encoder, label="audio encoder, in any case", **ENCODER)
    axes.set_ylabel("TFLOPs (prune + prefill)")


def _memory(axes: Axes, rows: list[Growth], dtype: str, limit: float | None) -> None:
    seconds = [row.seconds for row in rows]
    axes.plot(seconds, [row.full_gb for row in rows], **FULL)
    for name, colour in _colours(rows).items():
        axes.plot(seconds, [row.pruned[name].gb for row in rows], color=colour)
    if limit is not None:
        axes.axhline(limit / 1e9, color="#444444", linewidth=1, linestyle="--")
        axes.annotate(f"{limit / 1e9:g} GB", (30, limit / 1e9), (2, 3), textcoords="offset points")
    axes.set_ylabel(f"peak memory in GB, {dtype}")


def _colours(rows: list[Growth]) -> dict[str, Any]:
    """From dark to light over the conditions."""
    from matplotlib import colormaps

    names = list(rows[0].pruned)
    shades = colormaps["viridis"]
    return {name: shades(0.15 + 0.7 * i / max(len(names) - 1, 1)) for i, name in enumerate(names)}


def _dress(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 1000 else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks(TICKS, [length(at).replace(" min", "m").replace(" ", "") for at in TICKS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("length of the recording")
    axes.grid(color="#e6e8eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_times(path: Path, shape: Shape, setting: Setting, found: Profile) -> None:
    """Measured prune and prefill of every condition as bars, the ideal marked."""
    from matplotlib.figure import Figure

    rows = [row for row in found.rows if row.error is None]
    figure = Figure(figsize=(8, 1.4 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = [row.condition for row in rows]
    start = [0.0] * len(rows)
    for stage, colour in STAGES.items():
        times = [_milliseconds(row, stage) for row in rows]
        axes.barh(names, times, left=start, color=colour, label=stage, height=0.7)
        start = [a + b for a, b in zip(start, times, strict=True)]
    whole = max(row.audio_tokens for row in found.rows)
    pruned = [row for row in rows if row.audio_tokens < whole]
    ideal = {row.condition: _milliseconds(row, "ideal") for row in pruned}
    axes.plot(list(ideal.values()), list(ideal), "|", color="#111111", markersize=12, label=IDEAL)
    axes.invert_yaxis()
    axes.set_xlabel("ms, median")
    axes.set_title(f"{about(shape, setting)}: measured times", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    write(figure, path)


def _milliseconds(row: Measured, stage: str) -> float:
    return 1000 * getattr(row, stage).median
