"""Pruning methods: one file each, named like the method. To add one, add a file.

A method is a module of this package that holds one subclass of `Pruner`; its fields are its
settings, and the first line of the module's docstring is what people read about it. Modules whose
names begin with an underscore are shared pieces. Nothing here imports torch before it selects.
"""

from __future__ import annotations

import ast
import pkgutil
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from speechprune_cli.errors import UsageError
from speechprune_cli.pruners.base import Pruner

METHODS = tuple(
    sorted(
        module.name
        for module in pkgutil.iter_modules(__path__)
        if module.name != "base" and not module.name.startswith("_")
    )
)


def pruner_class(name: str) -> type[Pruner]:
    """The class behind a method's name. Raises UsageError for an unknown one."""
    if name not in METHODS:
        raise UsageError(f"unknown pruning method {name!r}: choose from {', '.join(METHODS)}")
    module = import_module(f"{__name__}.{name}")
    return next(
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Pruner)
        and item.__module__ == module.__name__
    )


def get_pruner(name: str, **settings: Any) -> Pruner:
    """A method by its name. Raises UsageError for an unknown name, setting or value."""
    method = pruner_class(name)
    known = [field.name for field in fields(method)]
    if unknown := sorted(set(settings) - set(known)):
        listed = f"it knows {', '.join(known)}" if known else "it has none"
        raise UsageError(f"pruning method {name!r} has no setting {unknown[0]!r}: {listed}")
    return method(**settings)


def describe() -> dict[str, str]:
    """Every method's name and its one line for people."""
    folder = Path(__file__).parent
    sources = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in METHODS}
    docs = {name: ast.get_docstring(ast.parse(source)) or "" for name, source in sources.items()}
    return {name: doc.partition("\n")[0] for name, doc in docs.items()}
