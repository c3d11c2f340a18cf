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
    str | None,
    argument(
        "MODEL",
        "A preset (see speechprune models), a folder, or a Hub id, of which only config.json is "
        "read, unless measured; or RECOGNISER+READER.",
    ),
]


@grouped
def profile(
    model: ModelName = None,
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
    memory = None if recording.memory is None else parse_memory(recording.memory)
    if recording.models:
        check_models(model, measuring, where)
        compare(out, recording, pruning, where, memory, form)
        return
    if model is None:
        raise UsageError("name a MODEL, or see all of them: speechprune profile --models")
    preset = resolve_model(model)
    setting = recording.setting(specs=pruning.specs(defaults_of(preset)), budget=pruning.b1)
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


def check_models(model: str | None, measuring: MeasuringOptions, where: PlaceOptions) -> None:
    """Raise UsageError for what --models leaves no room for."""
    wrong = {
        "MODEL": model,
        "--measure": measuring.measure,
        "--revision": where.revision,
        "--device": where.device != "auto",
        "--offline": where.offline,
    }
    if given := [name for name, value in wrong.items() if value]:
        raise UsageError(f"--models counts all presets: leave out {' and '.join(given)}")


def compare(
    out: Output,
    recording: SettingOptions,
    pruning: GridOptions,
    where: PlaceOptions,
    memory: float | None,
    form: FormatOptions,
) -> None:
    """All presets in closed form, the smallest first. Raises UsageError."""
    from speechprune_cli.config import list_presets, load_preset
    from speechprune_cli.profiler.compared import LIMITS, compare
    from speechprune_cli.report.profile_models import models_table
    from speechprune_cli.report.profile_models_figure import draw_models

    presets = [load_preset(name) for name in list_presets()]
    settings = {
        preset.name: recording.setting(specs=pruning.specs(defaults_of(preset)), budget=pruning.b1)
        for preset in presets
    }
    setting, dtype = settings[presets[0].name], counted_dtype(where)
    if any(len(each.specs) > 1 for each in settings.values()):
        raise UsageError("--models compares one way of pruning: give one --method and one amount")
    limits = LIMITS if memory is None else (memory,)
    rows = [compare(preset, settings[preset.name], dtype, limits) for preset in presets]
    rows.sort(key=lambda row: row.parameters or 0)
    table = models_table(setting, dtype, limits, rows)
    form.show(out, {}, [table], lambda path: draw_models(path, setting, dtype, limits, rows))


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

    dtype = counted_dtype(where)
    tables = counted_tables(shape, setting, dtype, memory, preset.published_costs)
    form.show(
        out,
        {"model": shape.name},
        tables,
        lambda path: draw_growth(path, shape, setting, dtype, memory),
    )


def counted_dtype(where: PlaceOptions) -> str:
    """The quantisation or dtype that is asked for, else bfloat16."""
    dtype = where.quantize if where.quantize != "none" else where.dtype
    return "bfloat16" if dtype == "auto" else dtype


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
    form.show(
        out, {"model": shape.name}, tables, lambda path: draw_times(path, shape, setting, found)
    )
    if failed := [row.condition for row in found.rows if row.error]:
        raise SpeechPruneError(f"did not fit into memory: {', '.join(failed)}")
