"""Parts that are found by name: a package with one file each, a class in each file.

Other installed packages add parts with an entry point of the registry's group, such as

    [project.entry-points."speechprune.pruners"]
    loudest = "their_package.loudest:Loudest"
"""

from __future__ import annotations

import pkgutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from typing import Any, Generic, TypeVar, cast

from speechprune_cli.errors import UsageError, nearest, one_line
from speechprune_cli.validation import checked

T = TypeVar("T")


class Registry(Generic[T]):
    """Modules of a package that hold a concrete subclass of `kind`, and entry points of others.

    Modules named in `beside` and those that begin with an underscore are shared pieces. A part's
    name is its module's, with hyphens for underscores where `hyphens` says so.
    """

    def __init__(
        self,
        package: str,
        path: Iterable[str],
        kind: Any,
        what: str,
        *,
        group: str,
        beside: Iterable[str] = ("base",),
        hyphens: bool = False,
    ) -> None:
        self.package, self.kind, self.what, self.group = package, kind, what, group
        self.modules = {
            module.name.replace("_", "-") if hyphens else module.name: module.name
            for module in pkgutil.iter_modules(path)
            if module.name not in beside and not module.name.startswith("_")
        }

    @cached_property
    def foreign(self) -> dict[str, list[EntryPoint]]:
        """Parts of other packages; more than one by a name is one too many."""
        found = defaultdict(list)
        for entry in entry_points(group=self.group):
            found[entry.name].append(entry)
        return dict(found)

    @property
    def names(self) -> tuple[str, ...]:
        """All there are, sorted."""
        return tuple(sorted({*self.modules, *self.foreign}))

    def part(self, name: str) -> type[T]:
        """The class behind a name. Raises UsageError for an unknown, broken or ambiguous one."""
        foreign = self.foreign.get(name, [])
        if len(foreign) + (name in self.modules) > 1:
            origins = " and ".join(map(_origin, foreign))
            raise UsageError(f"{self.what} {name!r}: {origins} has one too: uninstall one of them")
        if foreign:
            return self._load(foreign[0])
        if name not in self.modules:
            listed = ", ".join(self.names)
            meant = nearest(name, self.names)
            raise UsageError(f"unknown {self.what} {name!r}{meant}: choose from {listed}")
        module = import_module(f"{self.package}.{self.modules[name]}")
        found: type[T] = next(
            item
            for item in vars(module).values()
            if isinstance(item, type)
            and issubclass(item, self.kind)
            and item.__module__ == module.__name__
            and not isabstract(item)
        )
        return found

    def settings(self, name: str) -> set[str]:
        """What the part can be told."""
        return {field.name for field in fields(cast(Any, self.part(name)))}

    def make(self, name: str, settings: Mapping[str, Any]) -> T:
        """The part with `settings`. Raises UsageError for an unknown one and for a bad value."""
        return checked(self.part(name), settings, f"{self.what} {name!r}:")

    def make_of(self, name: str, settings: Mapping[str, Any]) -> T:
        """The part with those of `settings` that it knows; others are for other parts."""
        known = self.settings(name)
        return self.make(name, {key: value for key, value in settings.items() if key in known})

    def _load(self, entry: EntryPoint) -> type[T]:
        called = f"{self.what} {entry.name!r} of {_origin(entry)}"
        try:
            found = entry.load()
        except Exception as error:  # another package's code may fail in any way
            raise UsageError(f"{called} cannot be loaded: {one_line(error)}") from error
        if not (isinstance(found, type) and issubclass(found, self.kind)) or isabstract(found):
            raise UsageError(f"{called} is no {self.kind.__name__}")
        return found


def _origin(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name}" if entry.dist else entry.value
