"""Pruning methods: one file each, named like the method. To add one, add a file.

A method is a module of this package that holds one subclass of `Pruner`, or a class of another
installed package behind an entry point of the group `speechprune.pruners`. Its fields are its
settings. Modules whose
names begin with an underscore are shared pieces. Nothing here imports torch before it selects.
"""

from __future__ import annotations

from typing import Any

from speechprune_cli.pruners.base import Pruner
from speechprune_cli.registry import Registry

PRUNERS: Registry[Pruner] = Registry(
    __name__, __path__, Pruner, "pruning method", group="speechprune.pruners"
)


def get_pruner(name: str, **settings: Any) -> Pruner:
    """A method by its name. Raises UsageError for an unknown name, setting or value."""
    return PRUNERS.make(name, settings)
