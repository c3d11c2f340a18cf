"""What is profiled, whether it is run, and how the tables come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.options.grouping import output_option, panel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechprune_cli.backends.shape import Shape
    from speechprune_cli.output import Output
    from speechprune_cli.profiler.setting import Setting
    from speechprune_cli.table import Table

REPEATS = 5
setting_option, measuring_option = panel("Setting"), panel("Measuring")


@dataclass(frozen=True)
class SettingOptions:
    """What is profiled."""

    seconds: float = setting_option(
        "Length of the recording, up to 36000.", default=30.0, metavar="S"
    )
    text_tokens: int = setting_option(
        "Tokens of the prompt's text.", default=107, metavar="N", min=1
    )
    output_tokens: int = setting_option(
        "Tokens of the answer; the prefill gives the first.", default=1, metavar="N", min=1
    )
    batch_size: int = setting_option(
        "Questions about the recording that are read together.", default=1, metavar="N", min=1
    )
    memory: str | None = setting_option(
        "Find the longest recording that fits, as in 24GB.", metavar="SIZE"
    )

    def setting(self, **pruning: Any) -> Setting:
        """What is profiled. Raises UsageError."""
        from speechprune_cli.profiler.setting import Setting

        return Setting(
            seconds=self.seconds,
            text_tokens=self.text_tokens,
            output_tokens=self.output_tokens,
            batch_size=self.batch_size,
            **pruning,
        )


@dataclass(frozen=True)
class MeasuringOptions:
    """Whether and how it is run instead of counted."""

    measure: bool = measuring_option("Run it here, and time it, instead of counting.")
    random_weights: bool = measuring_option(
        "Build the model at full size without downloading it; times and memory are the same."
    )
    repeats: int | None = measuring_option(
        f"Rounds after one that warms up. Default: {REPEATS}.", metavar="N", min=1
    )


@dataclass(frozen=True)
class FormatOptions:
    """How tables come out."""

    plot: Path | None = output_option(
        "Cost over length, or with --measure the times, as .png, .svg or .pdf", metavar="FILE"
    )
    csv: bool = output_option("All tables as one CSV.")
    markdown: bool = output_option("Tables for a page instead of a terminal.")

    def show(self, out: Output, shape: Shape, tables: Sequence[Table]) -> None:
        """The tables, in the form asked for."""
        for table in tables:
            out.record({"model": shape.name, **table.json()})
        out.tables(tables, "csv" if self.csv else "markdown" if self.markdown else "")
