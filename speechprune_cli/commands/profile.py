"""`speechprune profile`: what pruning saves, counted for any model or measured on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.methods import defaults_of
from speechprune_cli.options import GridOptions, OutputOptions, PlaceOptions, argument, grouped
from speechprune_cli.options.profiling import (
    REPEATS,
    FormatOptions,
    MeasuringOptions,
    SettingOptions,
)
from speechprune_cli.report import figures
from speechprune_cli.report.files import check_destination

if TYPE_CHECKING:
    from speechprune_cli.backends.shape import Shape
    from speechprune_cli.config import Preset
    from speechprune_cli.output import Output
    from speechprune_cli.profiler.setting import Setting

ModelName = Annotated[
    str,
    argument(
        "MODEL",
        "A preset (see speechprune models), a folder, or a Hub id, of which only config.json is "
        "read, unless measured; or RECOGNISER+READER.",
    ),
]


@grouped
def profile(
    model: ModelName,
    *,
    recording: SettingOptions,
    pruning: GridOptions,
    measuring: MeasuringOptions,
    where: PlaceOptions,
    form: FormatOptions,
    output: OutputOptions,
) -> None:
    """What pruning saves, counted for any model with no weights, or measured here.

    By default for 30 s and 107 text tokens, as in the paper's table I (--paper).
    """
    from speechprune_cli.config import resolve_model
    from speechprune_cli.profiler.architecture import shape_of
    from speechprune_cli.profiler.counted import context_warnings
    from speechprune_cli.profiler.setting import parse_memory

    out = output.open()
    check_options(measuring, recording, form, output.json)
    preset = resolve_model(model)
    setting = recording.setting(specs=pruning.specs(defaults_of(preset)), budget=pruning.b1)
    memory = None if recording.memory is None else parse_memory(recording.memory)
    shape = shape_of(preset, where.revision, where.offline)
    for warning in context_warnings(shape, setting):
        out.warning(warning)
    if measuring.measure:
        measure(out, preset, shape, setting, measuring, where, form)
    else:
        count(out, preset, shape, setting, where, memory, form)


def check_options(
    measuring: MeasuringOptions, recording: SettingOptions, form: FormatOptions, json: bool
) -> None:
    """Raise UsageError for options that do not go together."""
    if sum((form.csv, form.markdown, json)) > 1:
        raise UsageError("choose one of --json, --csv and --markdown")
    if measuring.measure and recording.memory is not None:
        raise UsageError("--memory is counted, not measured: leave out --measure")
    if not measuring.measure and (measuring.random_weights or measuring.repeats is not None):
        wrong = "--random-weights" if measuring.random_weights else "--repeats"
        raise UsageError(f"{wrong} has a use only with --measure")
    if form.plot is not None:
        check_destination(form.plot, "--plot", figures.FORMATS)
        figures.check_drawable("--plot", "matplotlib")


def count(
    out: Output,
    preset: Preset,
    shape: Shape,
    setting: Setting,
    where: PlaceOptions,
    memory: float | None,
    form: FormatOptions,
) -> None:
    """Everything in closed form."""
    from speechprune_cli.report.profile_figures import draw_growth
    from speechprune_cli.report.profile_tables import counted_tables

    dtype = where.quantize if where.quantize != "none" else where.dtype
    dtype = "bfloat16" if dtype == "auto" else dtype
    tables = counted_tables(shape, setting, dtype, memory, preset.published_costs)
    form.show(out, shape, tables, lambda path: draw_growth(path, shape, setting, dtype, memory))


def measure(
    out: Output,
    preset: Preset,
    shape: Shape,
    setting: Setting,
    measuring: MeasuringOptions,
    where: PlaceOptions,
    form: FormatOptions,
) -> None:
    """Everything on this machine. Raises `SpeechPruneError` where some of it did not fit."""
    from speechprune_cli.profiler.measured import load, measure
    from speechprune_cli.report.profile_figures import draw_times
    from speechprune_cli.report.profile_measured import describe_machine, measured_tables

    for spec in setting.specs:
        spec.check(preset)
    repeats = measuring.repeats or REPEATS
    lm = load(preset, shape, made_up=measuring.random_weights, **where.place)
    for decision in lm.decisions:
        out.note(decision)
    with out.progress(f"measuring {shape.name}") as on_progress:
        found = measure(lm, setting, repeats, on_progress)
    tables = measured_tables(shape, setting, found, describe_machine(lm, repeats))
    form.show(out, shape, tables, lambda path: draw_times(path, shape, setting, found))
    if failed := [row.condition for row in found.rows if row.error]:
        raise SpeechPruneError(f"did not fit into memory: {', '.join(failed)}")
