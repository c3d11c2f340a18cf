"""`speechprune models`: what there is, what it costs, what is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from speechprune_cli.options import OutputOptions, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechprune_cli.config import Preset
    from speechprune_cli.table import Table


@grouped
def models(output: OutputOptions) -> None:
    """List the models: what they are, what they take in memory, whether they are here already."""
    from speechprune_cli.config import list_presets, load_preset

    out = output.open()
    presets = [describe_preset(load_preset(name)) for name in list_presets()]
    for preset in presets:
        out.record(preset)
    out.tables([models_table(presets)])


def describe_preset(preset: Preset) -> dict[str, Any]:
    """The JSON fields of one model: its preset, and whether its weights are on this machine."""
    from speechprune_cli.checkpoint import is_local

    return {**preset.model_dump(), "local": is_local(preset)}


def models_table(presets: Sequence[dict[str, Any]]) -> Table:
    """A row per model."""
    from speechprune_cli.table import Row, Table, or_dash

    rows = [
        Row(
            cells=(
                preset["name"],
                or_dash(parameters, preset["parameters"]),
                memory(preset["weights_gb"]),
                "on this machine" if preset["local"] else "not downloaded",
                preset["summary"],
            ),
            fields=preset,
        )
        for preset in presets
    ]
    columns = ("model", "parameters", "GB in memory", "weights", "what it is")
    return Table("models", "", columns, tuple(rows), words=(0, 2, 3, 4))


def parameters(count: int) -> str:
    """`8.4 B`, `25 M`."""
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def memory(weights_gb: dict[str, float]) -> str:
    """`33.59 float32, 16.79 float16 or bfloat16`: the weights, by dtype."""
    from speechprune_cli.table import DASH

    dtypes: dict[float, list[str]] = {}
    for dtype, size in weights_gb.items():
        dtypes.setdefault(size, []).append(dtype)
    return ", ".join(f"{size:g} {' or '.join(names)}" for size, names in dtypes.items()) or DASH
