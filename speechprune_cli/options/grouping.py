"""Options in groups: a frozen dataclass whose fields are options of a command.

A command that takes one as a parameter, under `@grouped`, has all of its options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

import typer


def panel(name: str) -> Callable[..., Any]:
    """Options that `--help` shows together."""
    return partial(typer.Option, rich_help_panel=name, show_envvar=False)


model_option, pruning_option = panel("Model"), panel("Pruning")
answer_option, output_option = panel("Answer"), panel("Output")
rare_option = panel("Rarely needed")
"""For what a first look at `--help` may skip."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups: every field of one becomes an option of the command."""
    taken = signature(command, eval_str=True).parameters.values()
    groups = {each.name: each.annotation for each in taken if is_dataclass(each.annotation)}
    flat: list[Parameter] = []
    for each in taken:
        flat += _options(each.annotation) if each.name in groups else [each]

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    run.__signature__ = Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in flat}
    return run


def _options(group: Any) -> list[Parameter]:
    """A group's own options, then those that it inherits."""
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in sorted(fields(group), key=lambda field: field.name not in group.__annotations__)
    ]


def on_command_line(name: str) -> bool:
    """Whether an option of the running command was given there, not by the environment."""
    import click

    context = click.get_current_context(silent=True)
    source = None if context is None else context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
