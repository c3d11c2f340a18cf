"""What is profiled, whether it is run, and how the tables come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

    seconds: Annotated[
        float, setting_option(metavar="S", help="Length of the recording, up to 36000.")
    ] = 30.0
    text_tokens: Annotated[
        int, setting_option(metavar="N", min=1, help="Tokens of the prompt's text.")
    ] = 107
    output_tokens: Annotated[
        int,
        setting_option(
            metavar="N", min=1, help="Tokens of the answer; the prefill gives the first."
        ),
    ] = 1
    batch_size: Annotated[
        int,
        setting_option(
            metavar="N", min=1, help="Questions about the recording that are read together."
        ),
    ] = 1
    memory: Annotated[
        str | None,
        setting_option(metavar="SIZE", help="Find the longest recording that fits, as in 24GB."),
    ] = None

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

    measure: Annotated[
        bool,
        measuring_option(
            "--measure", metavar="", help="Run it here, and time it, instead of counting."
        ),
    ] = False
    random_weights: Annotated[
        bool,
        measuring_option(
            "--random-weights",
            metavar="",
            help="Build the model at full size without downloading it; times and memory are the "
            "same.",
        ),
    ] = False
    repeats: Annotated[
        int | None,
        measuring_option(
            metavar="N", min=1, help=f"Rounds after one that warms up. Default: {REPEATS}."
        ),
    ] = None


@dataclass(frozen=True)
class FormatOptions:
    """How tables come out."""

    plot: Annotated[
        Path | None,
        output_option(
            metavar="FILE",
            help="Cost over length, or with --measure the times, as .png, .svg or .pdf",
        ),
    ] = None
    csv: Annotated[bool, output_option("--csv", metavar="", help="All tables as one CSV.")] = False
    markdown: Annotated[
        bool,
        output_option("--markdown", metavar="", help="Tables for a page instead of a terminal."),
    ] = False

    def show(self, out: Output, shape: Shape, tables: Sequence[Table]) -> None:
        """The tables, in the form asked for."""
        for table in tables:
            out.record({"model": shape.name, **table.json()})
        out.tables(tables, "csv" if self.csv else "markdown" if self.markdown else "")
