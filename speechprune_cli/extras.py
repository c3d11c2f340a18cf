"""Packages that only some commands need: `pip install 'speechprune[EXTRA]'`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from speechprune_cli.errors import UsageError


def need(package: str, what: str, extra: str) -> None:
    """Raises UsageError, which says what to install, where a package is not there."""
    if find_spec(package) is None:
        name = package.replace("_", "-")
        raise UsageError(f"{what} needs {name}: pip install 'speechprune[{extra}]'")


def data_folder(package: str) -> Path:
    """The folder `data` of an installed package; of another one, just its name."""
    found = find_spec(package)
    return Path(found.origin).parent / "data" if found and found.origin else Path(package)
