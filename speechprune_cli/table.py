"""A table of any columns: on a terminal, in a pipe, as Markdown, CSV and JSON.

JSON: `table` (its name), `title`, the table's own facts, then `rows` and what other parts it has,
one object a row, and `caption`. CSV: a line per row, nested fields under joined names.
"""

from __future__ import annotations

import csv as csv_format
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from speechprune_cli.escaping import printable

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console, ConsoleOptions

DASH = "–"  # for people, in place of what is missing; programs get null, or nothing in CSV
BEYOND = "†"  # behind what is beyond the context that a model was made for
GAP = 2  # blanks between the columns on a terminal
STYLES = {"": "", "quiet": "dim", "good": "green", "bad": "bold red"}

Fields = Mapping[str, Any]
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]  # for people, one for each column
    fields: Fields = field(default_factory=dict)  # as plain data; none: a line for people alone
    mark: Literal["", "quiet", "good", "bad"] = ""  # how it stands out
    section: str = ""  # rows of different sections are parted by a line
    part: str = "rows"  # which of the table's parts it belongs to


@dataclass(frozen=True)
class Table:
    """A title, columns, rows, and what they mean."""

    name: str  # for programs: which table of a command it is
    title: str  # says what is shown, of what, in which units
    columns: tuple[str, ...]  # headers, which may break in two lines; the first names the row
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # what the columns mean, a sentence or two a line
    facts: Fields = field(default_factory=dict)  # of the table as a whole, for programs
    parts: tuple[str, ...] = ("rows",)  # lists of the JSON object
    words: tuple[int, ...] = (0,)  # columns, by index, set flush left; numbers are flush right

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        columns: Mapping[str, Callable[[Thing], str]],
        things: Iterable[Thing],
        fields: Callable[[Thing], Fields],
        notes: Iterable[str] = (),
        facts: Fields | None = None,
    ) -> Table:
        """A row for each thing; `columns` says how each shows it, by its header."""
        rows = [
            Row(tuple(show(each) for show in columns.values()), fields(each)) for each in things
        ]
        return cls(name, title, tuple(columns), tuple(rows), tuple(notes), facts or {})

    def json(self) -> dict[str, Any]:
        """As the module describes."""
        parts: dict[str, list[Fields]] = {part: [] for part in self.parts}
        for row in self.rows:
            if row.fields:
                parts[row.part].append(dict(row.fields))
        caption = " ".join(self.notes)
        return {"table": self.name, "title": self.title, **self.facts, **parts, "caption": caption}

    def plain(self, *, explained: bool = True) -> str:
        """For a pipe: title, header and rows with tabs between the cells, then the notes."""
        title = [printable(self.title)] if self.title else []
        notes = ["", *map(printable, self.notes)] if explained and self.notes else []
        return "\n".join([*title, *map("\t".join, self._lines()), *notes]) + "\n"

    def markdown(self) -> str:
        """A section: heading, table and explanation."""
        title = [f"### {printable(self.title)}", ""] if self.title else []
        first, *rest = [
            f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
            for cells in self._lines()
        ]
        sides = ("---" if i in self.words else "---:" for i in range(len(self.columns)))
        notes = ["", printable(" ".join(self.notes))] if self.notes else []
        return "\n".join([*title, first, f"|{'|'.join(sides)}|", *rest, *notes]) + "\n"

    def _lines(self) -> list[list[str]]:
        """Header and rows, each cell in one line."""
        lines = (self.columns, *(row.cells for row in self.rows))
        return [list(map(one_line, cells)) for cells in lines]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.text import Text

        if self.title:
            yield Text(printable(self.title) + "\n", "bold")
        for part in self._parts(options.max_width):
            yield self._draw(part)
            yield ""
        if self.notes:
            yield Text(printable("\n".join(self.notes)) + "\n", "dim")

    def _parts(self, width: int) -> list[list[int]]:
        """Columns, by index, of tables no wider than `width`; each begins with the first."""
        from rich.cells import cell_len

        widths = [
            max(map(cell_len, [*name.split("\n"), *(row.cells[i] for row in self.rows)])) + GAP
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
        from rich.text import Text

        drawn = Drawing(
            box=SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False
        )
        for i in part:
            justify: Literal["left", "right"] = "left" if i in self.words else "right"
            drawn.add_column(Text(printable(self.columns[i])), justify=justify, vertical="bottom")
        told = part[1:] or part
        shown = [row for row in self.rows if any(row.cells[i] != DASH for i in told)]
        ends = [row.section != after.section for row, after in pairwise(shown)]
        for row, end in zip(shown, [*ends, False], strict=False):
            cells = [Text(printable(row.cells[i])) for i in part]
            drawn.add_row(*cells, style=STYLES[row.mark], end_section=end)
        return drawn


def or_dash(show: Callable[..., str], *values: Any) -> str:
    """What `show` makes of the values; a dash where one is missing."""
    return DASH if None in values else show(*values)


def one_line(text: str) -> str:
    """Without breaks, tabs and what would steer a terminal."""
    return printable(" ".join(text.split()))


def csv(tables: Sequence[Table]) -> str:
    """For spreadsheets: all tables, a line per row, each with the table it belongs to.

    Where a row has a field that is named like a fact of its table, the fact stands.
    """
    rows = [
        {"table": table.name, **facts, "title": table.title, **_flat(row.fields), **facts}
        for table in tables
        for facts in [_flat(table.facts)]
        for row in table.rows
        if row.fields
    ]
    text = StringIO()
    names = dict.fromkeys(["table", *(name for row in rows for name in row)])
    writer = csv_format.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return printable(text.getvalue())


def _flat(fields: Fields, before: str = "") -> dict[str, Any]:
    """Nested fields under joined names: `{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[before + name] = value
    return flat
