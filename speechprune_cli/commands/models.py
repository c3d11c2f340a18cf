"""`speechprune models`: what there is, what it costs, what is here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from speechprune_cli.options import OutputOptions, grouped
from speechprune_cli.table import Table, or_dash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@grouped
def models(output: OutputOptions) -> None:
    """List the models: what they are, what they take in memory, whether they are here already."""
    from speechprune_cli.checkpoint import is_local
    from speechprune_cli.config import list_presets, load_preset

    out, presets = output.open(), [load_preset(name) for name in list_presets()]
    shown = [{**preset.model_dump(), "local": is_local(preset)} for preset in presets]
    for fields in shown:
        out.record(fields)
    out.tables([models_table(shown)])


def models_table(presets: Sequence[dict[str, Any]]) -> Table:
    """A row per model, from its preset and whether its weights are `local`."""
    dtypes = dict.fromkeys(dtype for preset in presets for dtype in preset["weights_gb"])
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "model": lambda preset: preset["name"],
        "parameters": lambda preset: or_dash(parameters, preset["parameters"]),
        **{f"GB in\n{dtype}": partial(memory, dtype) for dtype in dtypes},
        "weights": lambda preset: "on this machine" if preset["local"] else "not downloaded",
        "what it is": lambda preset: preset["summary"],
    }
    words = (0, len(columns) - 2, len(columns) - 1)
    return replace(Table.of("models", "", columns, presets, dict), words=words)


def parameters(count: int) -> str:
    """`8.4 B`, `25 M`."""
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def memory(dtype: str, preset: dict[str, Any]) -> str:
    """What the weights take."""
    return or_dash("{:g}".format, preset["weights_gb"].get(dtype))
