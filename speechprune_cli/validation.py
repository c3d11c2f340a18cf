"""One way to check what people write: settings of parts, presets, lines of files."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_type_hints

from speechprune_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import ValidationError

T = TypeVar("T")


def checked(part: type[T], settings: Mapping[str, Any], what: str) -> T:
    """A dataclass made of `settings`, each of the type that its field states.

    Nothing is converted: text is no number, and `true` is none either. Limits stand beside the
    type, as in `Annotated[float, Field(ge=0)]`. Raises UsageError that begins with `what`.
    """
    from pydantic import ConfigDict, ValidationError, create_model

    hints = get_type_hints(part, include_extras=True)
    known: dict[str, Any] = {
        field.name: (hints[field.name], _default(field)) for field in fields(cast(Any, part))
    }
    strict = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
    try:
        found = create_model(part.__name__, __config__=strict, **known)(**settings)
    except ValidationError as error:
        raise UsageError(f"{what} {explain(error, lambda _: list(known))}") from error
    return part(**{name: getattr(found, name) for name in known})


def explain(error: ValidationError, known: Callable[[tuple[int | str, ...]], list[str]]) -> str:
    """The first thing that is wrong, in words: the key, what it holds, what it should.

    `known` lists the keys that there are at the place that leads to an unknown one.
    """
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "json_invalid":
            return f"not JSON ({first['ctx']['error']})"
        case "missing":
            return f"the key '{key}' is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            names = known(first["loc"][:-1])
            listed = f"the known ones are {', '.join(names)}" if names else "there is none"
            return f"unknown key '{key}': {listed}"
        case _:
            given = first["input"]
            held = f" is {given!r}" if isinstance(given, str | int | float) else ""
            return f"{key or 'it'}{held}: {first['msg'].lower()}"


def _default(field: Field[Any]) -> Any:
    from pydantic.fields import FieldInfo

    if field.default_factory is not MISSING:
        return FieldInfo(default_factory=field.default_factory)
    return ... if field.default is MISSING else field.default
