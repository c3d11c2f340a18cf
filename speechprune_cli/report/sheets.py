"""Tables of any columns: on a terminal, in a pipe, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv as csv_format
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

DASH = "–"
GAP = 2
"""Blanks between the columns on a terminal."""

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Sheet:
    """One table, ready to be shown in any way."""

    name: str
    kind: Literal["counted", "measured"]
    title: str
    """Says what is shown, of what, in which units."""
    columns: Mapping[str, Callable[[Any], str]]
    """How each column shows a row, by its header, which may break in two lines."""
    rows: Sequence[Any]
    fields: Callable[[Any], Fields]
    """A row as plain data."""
    caption: Sequence[str]
    """What the columns mean, a sentence or two a line."""

    @property
    def heading(self) -> str:
        """The title, and whether its figures are counted or measured."""
        return f"{self.title} ({self.kind})"

    @property
    def body(self) -> list[list[str]]:
        """The cells of every row."""
        return [[show(row) for show in self.columns.values()] for row in self.rows]

    @property
    def header(self) -> list[str]:
        """The columns' headers, each in one line."""
        return [name.replace("\n", " ") for name in self.columns]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.text import Text

        yield Text(self.heading + "\n", "bold")
        for part in self._parts(options.max_width):
            yield self._draw(part)
            yield ""
        yield Text("\n".join(self.caption) + "\n", "dim")

    def _parts(self, width: int) -> list[list[int]]:
        """Columns, by index, of tables no wider than `width`; each begins with the first."""
        cells = zip(*self.body, strict=True)
        widths = [
            max(map(len, [*name.split("\n"), *column])) + GAP
            for name, column in zip(self.columns, cells, strict=True)
        ]
        parts = [[0]]
        for column in range(1, len(widths)):
            taken = sum(widths[i] for i in parts[-1])
            if taken + widths[column] - GAP > width and len(parts[-1]) > 1:
                parts.append([0])
            parts[-1].append(column)
        return parts

    def _draw(self, part: Sequence[int]) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        drawn = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False)
        names = list(self.columns)
        for i in part:
            drawn.add_column(names[i], justify="right" if i else "left", vertical="bottom")
        for cells in self.body:
            drawn.add_row(*(cells[i] for i in part))
        return drawn


def plain(sheet: Sheet) -> str:
    """For a pipe: title, header and rows with tabs between the cells, then the caption."""
    lines = ["\t".join(cells) for cells in (sheet.header, *sheet.body)]
    return "\n".join([sheet.heading, *lines, "", *sheet.caption]) + "\n"


def markdown(sheet: Sheet) -> str:
    """A section: heading, table and explanation."""
    first, *rest = [f"| {' | '.join(cells)} |" for cells in (sheet.header, *sheet.body)]
    rule = "|---|" + "---:|" * (len(sheet.columns) - 1)
    table = [first, rule, *rest]
    return "\n".join([f"### {sheet.heading}", "", *table, "", " ".join(sheet.caption)]) + "\n"


def csv(sheets: Sequence[Sheet]) -> str:
    """For spreadsheets: a line per row, each with the table it belongs to; lists are spread."""
    rows = [
        {"table": sheet.name, "kind": sheet.kind, "title": sheet.title, **_flat(sheet.fields(row))}
        for sheet in sheets
        for row in sheet.rows
    ]
    text = StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv_format.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(sheet: Sheet) -> dict[str, Any]:
    """`table`, `kind` (counted or measured), `title`, `rows` and `caption`."""
    return {
        "table": sheet.name,
        "kind": sheet.kind,
        "title": sheet.title,
        "rows": [dict(sheet.fields(row)) for row in sheet.rows],
        "caption": " ".join(sheet.caption),
    }


def _flat(fields: Fields, before: str = "") -> dict[str, Any]:
    """Nested fields under joined names: `{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[before + name] = value
    return flat
