"""A table of any columns: on a terminal, in a pipe, as Markdown, CSV and JSON.

JSON: `table` (its name), `title`, the table's own facts, then `rows` (or what `Row.part` says
instead), one object a row, and `caption`. CSV: a line per row, nested fields under joined names.
"""

from __future__ import annotations

import csv as csv_format
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console, ConsoleOptions

DASH = "–"
"""For people, in place of what is missing; programs get null, or nothing in CSV."""
GAP = 2
"""Blanks between the columns on a terminal."""
STYLES = {"": "", "quiet": "dim", "good": "green", "bad": "bold red"}

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    """For people, one for each column."""
    fields: Fields = field(default_factory=dict)
    """The same as plain data; none: a line that is for people alone."""
    mark: Literal["", "quiet", "good", "bad"] = ""
    """How it stands out."""
    section: str = ""
    """Rows of different sections are parted by a line."""
    part: str = "rows"
    """Which list of the JSON object it belongs to."""


@dataclass(frozen=True)
class Table:
    """A title, columns, rows, and what they mean."""

    name: str
    """For programs: which table of a command it is."""
    title: str
    """Says what is shown, of what, in which units."""
    columns: tuple[str, ...]
    """Headers, which may break in two lines; the first column is the row's name."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What the columns mean, a sentence or two a line."""
    facts: Fields = field(default_factory=dict)
    """Of the table as a whole, for programs."""

    @property
    def header(self) -> list[str]:
        """The columns' headers, each in one line."""
        return [name.replace("\n", " ") for name in self.columns]

    def json(self) -> dict[str, Any]:
        """As the module describes."""
        parts: dict[str, list[Fields]] = {"rows": []}
        for row in self.rows:
            if row.fields:
                parts.setdefault(row.part, []).append(dict(row.fields))
        caption = " ".join(self.notes)
        return {"table": self.name, "title": self.title, **self.facts, **parts, "caption": caption}

    def plain(self, *, explained: bool = True) -> str:
        """For a pipe: title, header and rows with tabs between the cells, then the notes."""
        lines = ["\t".join(cells) for cells in (self.header, *(row.cells for row in self.rows))]
        notes = ["", *self.notes] if explained and self.notes else []
        return "\n".join([*([self.title] if self.title else []), *lines, *notes]) + "\n"

    def markdown(self) -> str:
        """A section: heading, table and explanation."""
        first, *rest = [
            f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
            for cells in (self.header, *(row.cells for row in self.rows))
        ]
        rule = "|---|" + "---:|" * (len(self.columns) - 1)
        notes = ["", " ".join(self.notes)] if self.notes else []
        return "\n".join([f"### {self.title}", "", first, rule, *rest, *notes]) + "\n"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.text import Text

        if self.title:
            yield Text(self.title + "\n", "bold")
        for part in self._parts(options.max_width):
            yield self._draw(part)
            yield ""
        if self.notes:
            yield Text("\n".join(self.notes), "dim")

    def _parts(self, width: int) -> list[list[int]]:
        """Columns, by index, of tables no wider than `width`; each begins with the first."""
        widths = [
            max(map(len, [*name.split("\n"), *(row.cells[i] for row in self.rows)])) + GAP
            for i, name in enumerate(self.columns)
        ]
        parts = [[0]]
        for column in range(1, len(widths)):
            taken = sum(widths[i] for i in parts[-1])
            if taken + widths[column] - GAP > width and len(parts[-1]) > 1:
                parts.append([0])
            parts[-1].append(column)
        return parts

    def _draw(self, part: Sequence[int]) -> rich.table.Table:
        """Rows that have nothing in these columns are left out."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as Drawing

        drawn = Drawing(
            box=SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False
        )
        for i in part:
            justify: Literal["left", "right"] = "right" if i else "left"
            drawn.add_column(self.columns[i], justify=justify, vertical="bottom")
        shown = [row for row in self.rows if any(row.cells[i] != DASH for i in part[1:])]
        ends = [row.section != after.section for row, after in pairwise(shown)]
        for row, end in zip_longest(shown, ends, fillvalue=False):
            cells = [escaped(row.cells[i]) for i in part]
            drawn.add_row(*cells, style=STYLES[row.mark], end_section=end)
        return drawn


def escaped(text: str) -> str:
    """Text of the user's that Rich must not read as markup."""
    from rich.markup import escape

    return escape(text)


def csv(tables: Sequence[Table]) -> str:
    """For spreadsheets: all tables, a line per row, each with the table it belongs to."""
    rows = [
        {"table": table.name, "title": table.title, **_flat(table.facts), **_flat(row.fields)}
        for table in tables
        for row in table.rows
        if row.fields
    ]
    text = StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv_format.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(fields: Fields, before: str = "") -> dict[str, Any]:
    """Nested fields under joined names: `{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[before + name] = value
    return flat
