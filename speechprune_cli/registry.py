"""Parts that are found by name: a package with one file each, a class of settings in each file."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterable
from dataclasses import fields
from importlib import import_module
from importlib.resources import files
from typing import Any, Generic, TypeVar

from speechprune_cli.errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """The parts of a package: every module but `base` and those that begin with an underscore."""

    def __init__(self, package: str, path: Iterable[str], kind: Any, what: str) -> None:
        self.package, self.kind, self.what = package, kind, what
        self.names = tuple(
            sorted(
                module.name
                for module in pkgutil.iter_modules(path)
                if module.name != "base" and not module.name.startswith("_")
            )
        )

    def part(self, name: str) -> type[T]:
        """The class behind a name. Raises UsageError for an unknown one."""
        if name not in self.names:
            listed = ", ".join(self.names)
            raise UsageError(f"unknown {self.what} {name!r}: choose from {listed}")
        module = import_module(f"{self.package}.{name}")
        found: type[T] = next(
            item
            for item in vars(module).values()
            if isinstance(item, type)
            and issubclass(item, self.kind)
            and item.__module__ == module.__name__
        )
        return found

    def settings(self, name: str) -> set[str]:
        """What the part can be told."""
        part: Any = self.part(name)
        return {field.name for field in fields(part)}

    def make(self, name: str, settings: dict[str, Any]) -> T:
        """The part with those of `settings` that it knows. Raises UsageError for a bad value."""
        from pydantic import TypeAdapter, ValidationError

        known = self.settings(name)
        try:
            made: T = TypeAdapter(self.part(name)).validate_python(
                {key: value for key, value in settings.items() if key in known}
            )
        except ValidationError as error:
            first = error.errors()[0]
            setting = f"{first['loc'][0]}={first['input']}"
            raise UsageError(f"--set {setting}: {first['msg'].lower()}") from error
        return made

    def describe(self) -> dict[str, str]:
        """Every part's name and its one line for people."""
        folder = files(self.package)
        sources = {name: (folder / f"{name}.py").read_text("utf-8") for name in self.names}
        docs = {name: ast.get_docstring(ast.parse(text)) or "" for name, text in sources.items()}
        return {name: doc.partition("\n")[0] for name, doc in docs.items()}
