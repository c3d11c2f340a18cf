"""JSON lines, each checked against its format; every complaint names the file and the line."""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path, PurePath
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from speechprune_cli.errors import UsageError
from speechprune_cli.validation import explain

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Record(BaseModel):
    """A format of lines. Nothing is converted: a number is no text, and `true` no number."""

    model_config = ConfigDict(frozen=True, strict=True)


R = TypeVar("R", bound=Record)


def read_lines(path: Path, kind: type[R]) -> tuple[list[tuple[str, R]], str]:
    """The records of a file, each with its place, such as `data.jsonl:17`, and the file's SHA-256.

    Blank lines and a byte order mark are skipped. Raises UsageError for the first bad line.
    """
    content = _content(path)
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    records = [
        (place := f"{path}:{number}", _parse(line, kind, place))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    return records, hashlib.sha256(content).hexdigest()


def read_array(path: Path, kind: type[R]) -> tuple[list[tuple[str, R]], str]:
    """The same of a file that is one JSON array: places are `data.json, record 17`, from 0."""
    content = _content(path)
    try:
        found = _array(kind).validate_json(content.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        known = list(kind.model_fields)
        raise UsageError(f"{path}: {explain(error, lambda _: known)}") from error
    placed = [(f"{path}, record {number}", record) for number, record in enumerate(found)]
    return placed, hashlib.sha256(content).hexdigest()


def inside(folder: Path, name: str, place: str, root: Path | None = None) -> Path:
    """The file `name` of `folder`. Raises UsageError for any path that leads out of it.

    `root` is how far links may lead, where that is further.
    """
    root = (root or folder).resolve()
    outside = PurePath(name).is_absolute() or ".." in PurePath(name).parts
    try:
        path = (folder.resolve() / name).resolve()
        path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, too long, a zero byte
        raise UsageError(f"{place}: the path {name!r} cannot be followed") from error
    if outside or not path.is_relative_to(root):
        raise UsageError(f"{place}: the path {name!r} leads out of {folder}: put the file there")
    return path


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _array(kind: type[R]) -> TypeAdapter[list[R]]:
    return TypeAdapter(list[kind])  # type: ignore[valid-type]  # made at run time


def _parse(line: bytes, kind: type[R], place: str) -> R:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise UsageError(f"{place}: {explain(error, lambda _: list(kind.model_fields))}") from error
