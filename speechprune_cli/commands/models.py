"""`speechprune models`: what there is, what it costs, what is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from speechprune_cli import options
from speechprune_cli.output import Output
from speechprune_cli.report.facts import facts_text

if TYPE_CHECKING:
    from rich.table import Table

    from speechprune_cli.config import Preset


def models(json: options.Json = False) -> None:
    """List the models: what they are, what they take in memory, whether they are here already."""
    from speechprune_cli.config import list_presets, load_preset

    out = Output(json=json)
    presets = [describe_preset(load_preset(name)) for name in list_presets()]
    for preset in presets:
        out.record(preset)
    if out.rich:
        out.show(models_table(presets, out.stdout.width))
    else:
        out.text("".join("\t".join([p["name"], *phrases(p), p["summary"]]) + "\n" for p in presets))


def describe_preset(preset: Preset) -> dict[str, Any]:
    """The JSON fields of one model: its preset, and whether its weights are on this machine."""
    from speechprune_cli.checkpoint import is_local

    return {**preset.model_dump(), "local": is_local(preset)}


def phrases(preset: dict[str, Any]) -> list[str]:
    """Size, memory and presence of a model, for people."""
    presence = "on this machine" if preset["local"] else "not downloaded"
    return [parameters(preset["parameters"]), memory(preset["weights_gb"]), presence]


def parameters(count: int | None) -> str:
    """`8.4 B parameters`, `25 M parameters`."""
    if count is None:
        return "parameters unknown"
    number = f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"
    return f"{number} parameters"


def memory(weights_gb: dict[str, float]) -> str:
    """`GB in memory: 33.59 float32, 16.79 float16 or bfloat16`: the weights, by dtype."""
    dtypes: dict[float, list[str]] = {}
    for dtype, size in weights_gb.items():
        dtypes.setdefault(size, []).append(dtype)
    sizes = [f"{size:g} {' or '.join(names)}" for size, names in dtypes.items()]
    return "GB in memory: " + ", ".join(sizes) if sizes else "memory unknown"


def models_table(presets: list[dict[str, Any]], width: int) -> Table:
    """Names on the left; summary and facts on the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 3, 1, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    room = width - max(len(preset["name"]) for preset in presets) - 3
    for preset in presets:
        table.add_row(
            preset["name"], Text(preset["summary"] + "\n") + facts_text(phrases(preset), room)
        )
    return table
