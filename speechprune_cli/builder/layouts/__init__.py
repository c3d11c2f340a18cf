"""How a finished build is laid out for `eval`: one file each, named like the layout.

A layout is a module of this package with `INDEX`, the name of its index, and functions
`audio(sample, suffix)`, `save(...)` and `line(...)`; see `jsonl.py`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

from speechprune_cli.errors import UsageError

LAYOUTS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def layout(name: str) -> ModuleType:
    """A layout by its name. Raises UsageError for an unknown one."""
    if name not in LAYOUTS:
        raise UsageError(f"unknown layout {name!r}: choose from {', '.join(LAYOUTS)}")
    return import_module(f"{__name__}.{name}")
