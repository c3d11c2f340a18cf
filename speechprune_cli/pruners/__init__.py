"""Pruning methods: one file each, named like the method. To add one, add a file.

A method is a module of this package that holds one subclass of `Pruner`; its fields are its
settings, and the first line of the module's docstring is what people read about it. Modules whose
names begin with an underscore are shared pieces. Nothing here imports torch before it selects.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from speechprune_cli.errors import UsageError
from speechprune_cli.pruners.base import Pruner
from speechprune_cli.registry import Registry

_METHODS: Registry[Pruner] = Registry(__name__, __path__, Pruner, "pruning method")
METHODS = _METHODS.names
pruner_class = _METHODS.part
describe = _METHODS.describe


def get_pruner(name: str, **settings: Any) -> Pruner:
    """A method by its name. Raises UsageError for an unknown name, setting or value."""
    method = pruner_class(name)
    known = [field.name for field in fields(method)]
    if unknown := sorted(set(settings) - set(known)):
        listed = f"it knows {', '.join(known)}" if known else "it has none"
        raise UsageError(f"pruning method {name!r} has no setting {unknown[0]!r}: {listed}")
    return method(**settings)
