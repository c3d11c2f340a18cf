"""What is profiled, whether it is run, and how the tables come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.options.grouping import panel, showing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from speechprune_cli.backends.shape import Shape
    from speechprune_cli.output import Output
    from speechprune_cli.profiler.setting import Setting
    from speechprune_cli.table import Table

REPEATS = 5
profiling, measuring = panel("Setting"), panel("Measuring")


@dataclass(frozen=True)
class SettingOptions:
    """What is profiled."""

    seconds: float = profiling("Length of the recording, up to 36000.", "S", default=30.0)
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
        from speechprune_cli.profiler.setting import Setting

        recording = {name: value for name, value in vars(self).items() if name != "memory"}
        return Setting(**recording, **pruning)


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
        "Cost over length, or with --measure the times, as .png, .svg or .pdf", "FILE"
    )
    csv: bool = showing("All tables as one CSV.")
    markdown: bool = showing("Tables for a page instead of a terminal.")

    def show(
        self, out: Output, shape: Shape, tables: Sequence[Table], draw: Callable[[Path], None]
    ) -> None:
        """The tables, in the form asked for, and where a plot is, what `draw` makes of them."""
        for table in tables:
            out.record({"model": shape.name, **table.json()})
        out.tables(tables, "csv" if self.csv else "markdown" if self.markdown else "")
        if self.plot is not None:
            draw(self.plot)
            out.note(f"wrote {self.plot}")
