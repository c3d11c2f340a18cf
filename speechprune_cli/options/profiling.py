"""What is profiled, whether it is run, and how the tables come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.options.grouping import panel, showing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from speechprune_cli.output import Output
    from speechprune_cli.profiler.setting import Setting
    from speechprune_cli.table import Fields, Table

REPEATS = 5
profiling, measuring = panel("Setting"), panel("Measuring")


@dataclass(frozen=True)
class SettingOptions:
    """What is profiled."""

    models: bool = profiling("All presets in one table, in place of MODEL.")
    seconds: float | None = profiling(
        "Length of the recording, up to 36000. Default: 30, with --models 3600.", "S"
    )
    text_tokens: int = profiling("Tokens of the prompt's text.", "N", default=107, min=1)
    output_tokens: int = profiling(
        "Tokens of the answer; the prefill gives the first.", "N", default=1, min=1
    )
    batch_size: int = profiling(
        "Questions about the recording that are read together.", "N", default=1, min=1
    )
    memory: str | None = profiling("Find the longest recording that fits, as in 24GB.", "SIZE")

    def setting(self, **pruning: Any) -> Setting:
        """What is profiled. Raises UsageError."""
        from speechprune_cli.profiler.setting import MANY_SECONDS, SECONDS, Setting

        default = MANY_SECONDS if self.models else SECONDS
        return Setting(
            seconds=default if self.seconds is None else self.seconds,
            text_tokens=self.text_tokens,
            output_tokens=self.output_tokens,
            batch_size=self.batch_size,
            **pruning,
        )


@dataclass(frozen=True)
class MeasuringOptions:
    """Whether and how it is run instead of counted."""

    measure: bool = measuring("Run it here, and time it, instead of counting.")
    random_weights: bool = measuring(
        "Build the model at full size without downloading it; times and memory are the same."
    )
    repeats: int | None = measuring(
        f"Rounds after one that warms up. Default: {REPEATS}.", "N", min=1
    )


@dataclass(frozen=True)
class FormatOptions:
    """How tables come out."""

    plot: Path | None = showing(
        "Cost over length, with --measure the times, with --models their costs side by side, as "
        ".png, .svg or .pdf",
        "FILE",
    )
    csv: bool = showing("All tables as one CSV.")
    markdown: bool = showing("Tables for a page instead of a terminal.")

    def show(
        self, out: Output, facts: Fields, tables: Sequence[Table], draw: Callable[[Path], None]
    ) -> None:
        """The tables, in the form asked for, and where a plot is, what `draw` makes of them.

        In JSON each begins with `facts`.
        """
        for table in tables:
            out.record({**facts, **table.json()})
        out.tables(tables, "csv" if self.csv else "markdown" if self.markdown else "")
        if self.plot is not None:
            draw(self.plot)
            out.note(f"wrote {self.plot}")
