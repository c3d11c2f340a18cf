"""`speechprune profile`: what pruning saves, counted for any model or measured on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from speechprune_cli import options
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.options import output_option
from speechprune_cli.output import Output
from speechprune_cli.profiler.setting import PAPER_RATES, Setting, parse_memory
from speechprune_cli.report import figures
from speechprune_cli.report.files import check_destination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.config import Preset
    from speechprune_cli.profiler.measured import Profile
    from speechprune_cli.table import Table

REPEATS = 5

_setting = partial(typer.Option, rich_help_panel="Setting", show_envvar=False)
_measuring = partial(typer.Option, rich_help_panel="Measuring", show_envvar=False)

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A preset (see speechprune models), a folder, or a Hub id; of the latter two only "
        "config.json is read, unless measured.",
        show_default=False,
    ),
]
Seconds = Annotated[float, _setting(metavar="S", help="Length of the recording, up to 36000.")]
TextTokens = Annotated[int, _setting(metavar="N", min=1, help="Tokens of the prompt's text.")]
OutputTokens = Annotated[
    int,
    _setting(metavar="N", min=1, help="Tokens of the answer; the prefill gives the first."),
]
BatchSize = Annotated[
    int, _setting(metavar="N", min=1, help="Questions about the recording that are read together.")
]
Rates = Annotated[
    list[float] | None,
    _setting(
        "--rate",
        envvar="SPEECHPRUNE_RATE",
        metavar="R",
        help="Share of the budget to drop, from 0 to below 1. Repeatable. Default: the paper's.",
    ),
]
MemoryLimit = Annotated[
    str | None,
    _setting("--memory", metavar="SIZE", help="Find the longest recording that fits, as in 24GB."),
]
Measure = Annotated[
    bool, _measuring("--measure", metavar="", help="Run it here, and time it, instead of counting.")
]
RandomWeights = Annotated[
    bool,
    _measuring(
        "--random-weights",
        metavar="",
        help="Build the model at full size without downloading it; times and memory are the same.",
    ),
]
Repeats = Annotated[
    int | None,
    _measuring(metavar="N", min=1, help=f"Rounds after one that warms up. Default: {REPEATS}."),
]
Csv = Annotated[bool, output_option("--csv", metavar="", help="All tables as one CSV.")]
Markdown = Annotated[
    bool, output_option("--markdown", metavar="", help="Tables for a page instead of a terminal.")
]
Plot = Annotated[
    Path | None,
    output_option(
        metavar="FILE",
        help="Cost over length, or with --measure the times, as .png, .svg or .pdf",
    ),
]


def profile(
    model: ModelName,
    *,
    seconds: Seconds = 30.0,
    text_tokens: TextTokens = 107,
    output_tokens: OutputTokens = 1,
    batch_size: BatchSize = 1,
    method: options.Methods = None,
    rate: Rates = None,
    budget: options.Budget = None,
    memory: MemoryLimit = None,
    measure: Measure = False,
    random_weights: RandomWeights = False,
    repeats: Repeats = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.DType = "auto",
    quantize: options.Quantize = "none",
    offline: options.Offline = False,
    plot: Plot = None,
    csv: Csv = False,
    markdown: Markdown = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """What pruning saves: counted for any model with no weights, or measured here with --measure.

    The defaults are those of the paper's table I: 30 s of audio, 107 text tokens, five rates.
    """
    from speechprune_cli.config import resolve_model

    out = Output(json=json, quiet=quiet, verbose=verbose)
    check_options(measure, random_weights, repeats, memory, (csv, markdown, json))
    if plot is not None:
        check_destination(plot, "--plot", figures.FORMATS)
        figures.check_drawable("--plot", "matplotlib")
    preset = resolve_model(model)
    job = Job(
        out,
        preset,
        Setting(
            seconds=seconds,
            text_tokens=text_tokens,
            output_tokens=output_tokens,
            batch_size=batch_size,
            rates=tuple(rate or PAPER_RATES),
            methods=tuple(method or [preset.defaults.method]),
            budget=options.parse_budget(budget),
        ),
        Place(revision, device, dtype, quantize, offline),
        plot,
        "csv" if csv else "markdown" if markdown else "",
    )
    if measure:
        job.measure(random_weights, repeats or REPEATS)
    else:
        job.count(None if memory is None else parse_memory(memory))


def check_options(
    measure: bool,
    random_weights: bool,
    repeats: int | None,
    memory: str | None,
    formats: Sequence[bool],
) -> None:
    """Raise UsageError for options that do not go together."""
    if sum(formats) > 1:
        raise UsageError("choose one of --json, --csv and --markdown")
    if measure and memory is not None:
        raise UsageError("--memory is counted, not measured: leave out --measure")
    if not measure and (random_weights or repeats is not None):
        wrong = "--random-weights" if random_weights else "--repeats"
        raise UsageError(f"{wrong} has a use only with --measure")


@dataclass(frozen=True)
class Place:
    """Which model is run, and where, as asked for on the command line."""

    revision: str | None
    device: str
    dtype: str
    quantize: str
    offline: bool


@dataclass(frozen=True)
class Job:
    """What is to be profiled, and where its tables go."""

    out: Output
    preset: Preset
    setting: Setting
    place: Place
    plot: Path | None
    form: Literal["", "csv", "markdown"]
    """csv, markdown, or nothing for a terminal, a pipe and JSON."""

    def count(self, memory_limit: float | None) -> None:
        """Everything in closed form."""
        from speechprune_cli.profiler.architecture import described
        from speechprune_cli.report.profile_tables import counted_tables

        preset = described(self.preset, self.place.revision, self.place.offline)
        dtype = self.place.quantize if self.place.quantize != "none" else self.place.dtype
        dtype = "bfloat16" if dtype == "auto" else dtype
        self.warn_of_context(preset)
        self.show(counted_tables(preset, self.setting, dtype, memory_limit))
        if self.plot is not None:
            from speechprune_cli.report.profile_figures import draw_growth

            draw_growth(self.plot, preset, self.setting, dtype, memory_limit)
            self.out.note(f"wrote {self.plot}")

    def measure(self, random_weights: bool, repeats: int) -> None:
        """Everything on this machine. Raises `SpeechPruneError` where some of it did not fit."""
        from speechprune_cli.profiler.architecture import described
        from speechprune_cli.profiler.measured import measure
        from speechprune_cli.report.profile_measured import describe_machine, measured_tables

        preset = described(self.preset, self.place.revision, self.place.offline)
        self.warn_of_context(preset)
        lm = self.load(preset, random_weights)
        for decision in lm.decisions:
            self.out.note(decision)
        with self.out.progress(f"measuring {preset.name}") as on_progress:
            found = measure(lm, self.setting, repeats, on_progress)
        machine = describe_machine(lm, repeats)
        self.show(measured_tables(preset, self.setting, found, machine))
        self.draw_times(preset, found)
        if failed := [row.condition for row in found.rows if row.error]:
            raise SpeechPruneError(f"did not fit into memory: {', '.join(failed)}")

    def load(self, preset: Preset, random_weights: bool) -> SpeechLM:
        """The model, with its own weights or with made-up ones."""
        place = self.place
        if random_weights:
            from speechprune_cli.device import place as placed
            from speechprune_cli.profiler.random_weights import random_backend

            return random_backend(preset, placed(place.device, place.dtype, place.quantize))
        from speechprune_cli.backends import load_backend

        return load_backend(
            preset,
            revision=place.revision,
            device=place.device,
            dtype=place.dtype,
            quantize=place.quantize,
            offline=place.offline,
        )

    def draw_times(self, preset: Preset, found: Profile) -> None:
        """The times as bars, where they are asked for."""
        if self.plot is not None:
            from speechprune_cli.report.profile_figures import draw_times

            draw_times(self.plot, preset, self.setting, found)
            self.out.note(f"wrote {self.plot}")

    def warn_of_context(self, preset: Preset) -> None:
        """Say which prompts are longer than the model was made for."""
        from speechprune_cli.profiler.counted import architecture_of, beyond_context

        limit = architecture_of(preset).decoder.max_position_embeddings
        for load in self.setting.loads(preset):
            if beyond_context(preset, self.setting, load.length):
                self.out.warning(
                    f"{load.name}: {load.length:,} prompt tokens are beyond the context of "
                    f"{limit:,} that {preset.name} was made for; computed all the same"
                )

    def show(self, tables: Sequence[Table]) -> None:
        """In the form asked for."""
        for table in tables:
            self.out.record({"model": self.preset.name, **table.json()})
        self.out.tables(tables, self.form)
