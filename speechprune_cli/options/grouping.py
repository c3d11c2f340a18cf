"""Options in groups: a frozen dataclass whose fields are options of a command.

A command that takes one as a parameter, under `@grouped`, has all of its options.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
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
RARE = "Rarely needed"
rare_option = panel(RARE)
"""For what a first look at `--help` may skip."""

KEYWORD = Parameter.KEYWORD_ONLY
_context: ContextVar[typer.Context | None] = ContextVar("context", default=None)
"""Of the command that runs."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups: every field of one becomes an option of the command."""
    taken = signature(command, eval_str=True).parameters.values()
    told = any(each.annotation is typer.Context for each in taken)
    groups: dict[str, Any] = {
        each.name: each.annotation for each in taken if is_dataclass(each.annotation)
    }
    flat: list[Parameter] = []
    for each in taken:
        flat += _options(each.annotation) if each.name in groups else [each]
    flat.sort(key=_is_rare)
    if not told:
        flat.append(Parameter("context", KEYWORD, annotation=typer.Context))

    @wraps(command)
    def run(**given: Any) -> None:
        _context.set(given["context"] if told else given.pop("context"))
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
        Parameter(f.name, KEYWORD, default=f.default, annotation=hints[f.name])
        for f in sorted(fields(group), key=lambda field: field.name not in group.__annotations__)
    ]


def _is_rare(parameter: Parameter) -> bool:
    """Whether it belongs to the panel that comes last."""
    told = getattr(parameter.annotation, "__metadata__", ())
    return any(getattr(each, "rich_help_panel", None) == RARE for each in told)


def on_command_line(name: str) -> bool:
    """Whether an option of the running command was given there, not by the environment."""
    context = _context.get()
    source = None if context is None else context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
