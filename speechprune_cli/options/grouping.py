"""Options in groups: a frozen dataclass whose fields are options of a command.

A command that takes one as a parameter, under `@grouped`, has all of its options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import field, fields, is_dataclass
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

RARE = "Rarely needed"
_context: ContextVar[typer.Context | None] = ContextVar("context", default=None)  # the command's


def option(
    text: str,
    metavar: str = "",
    *names: str,
    panel: str,
    default: Any = None,
    env: bool = False,
    **told: Any,
) -> Any:
    """A field that is an option, `text` its help; `names` where it is not named like the field.

    With `env` it is read from SPEECHPRUNE_<FIELD> where it is not given. `told` are typer's.
    """
    told |= {"help": text, "metavar": metavar, "rich_help_panel": panel, "show_envvar": False}
    return field(default=default, metadata={"names": names, "env": env, "told": told})


def panel(name: str) -> Callable[..., Any]:
    """`option` for those that `--help` shows together."""
    return partial(option, panel=name)


answering, showing = panel("Answer"), panel("Output")
rare = panel(RARE)  # for what a first look at `--help` may skip


def argument(metavar: str, text: str) -> Any:
    """What is given by its place, `text` its help."""
    return typer.Argument(metavar=metavar, help=text, show_default=False)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups: every field of one becomes an option of the command."""
    taken = signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in taken if is_dataclass(p.annotation)}
    told = any(each.annotation is typer.Context for each in taken)
    options = [each for group in groups.values() for each in _options(group)]
    options.sort(key=lambda each: each.annotation.__metadata__[0].rich_help_panel == RARE)
    if not told:
        options.append(Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context))
    flat = [*(each for each in taken if each.name not in groups), *options]

    @wraps(command)
    def run(**given: Any) -> None:
        running = _context.set(given["context"] if told else given.pop("context"))
        try:
            for name, group in groups.items():
                given[name] = group(**{each.name: given.pop(each.name) for each in fields(group)})
            command(**given)
        finally:
            _context.reset(running)

    run.__signature__ = Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in flat}
    return run


def by_environment(name: str) -> bool:
    """Whether an option of the running command has its value from the environment."""
    context = _context.get()
    source = None if context is None else context.get_parameter_source(name)
    return source is not None and source.name == "ENVIRONMENT"


def _options(group: Any) -> Iterator[Parameter]:
    """A group's own options, then those that it inherits."""
    hints = get_type_hints(group)
    for each in sorted(fields(group), key=lambda each: each.name not in group.__annotations__):
        kind, names = hints[each.name], each.metadata["names"]
        names = names or (f"--{each.name.replace('_', '-')}",)
        default = False if kind is bool else each.default  # a switch is off until it is given
        variable = f"SPEECHPRUNE_{each.name.upper()}" if each.metadata["env"] else None
        made = typer.Option(*names, envvar=variable, **each.metadata["told"])
        yield Parameter(
            each.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, made]
        )
