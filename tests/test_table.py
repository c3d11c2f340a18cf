"""One table in every form: nothing lost, nothing read as markup, nothing wider than the window."""

from __future__ import annotations

import csv as csv_format
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from speechprune_cli.table import DASH, Row, Table, csv
from speechprune_cli.units import duration, interval, length, precise, probability

ODD = ("[bold]loud[/bold]", "a|b", "[/]", ":smile:", "ends in \\", "日本語の行")
"""Names that a user may give: each has to be shown as it is."""
TABLE = Table(
    name="odd",
    title="A title with [red]brackets[/red]",
    columns=("name", "first\nnumber", "[dim]second"),
    rows=tuple(Row((name, str(i), f"{i}.5"), {"name": name, "n": i}) for i, name in enumerate(ODD)),
    notes=("A note on [i]all[/i].", "Another."),
    facts={"kind": "counted", "of": {"model": "nano"}},
)


def drawn(table: Table, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(table)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


def test_every_form_shows_the_same_cells():
    header, *plain = [line.split("\t") for line in TABLE.plain().split("\n") if "\t" in line]
    assert header == ["name", "first number", "[dim]second"]
    assert plain == [list(row.cells) for row in TABLE.rows]
    _, _, *lines = [line for line in TABLE.markdown().split("\n") if line.startswith("|")]
    marked = [re.split(r" \| |^\| | \|$", line)[1:-1] for line in lines]
    assert [[cell.replace("&#124;", "|") for cell in cells] for cells in marked] == plain
    shown = drawn(TABLE)
    assert all(cell in shown for cells in plain for cell in cells)


def test_what_a_user_wrote_is_no_markup():
    text = drawn(TABLE)
    assert all(name in text for name in ODD)
    for piece in ("[red]brackets[/red]", "[dim]second", "[i]all[/i]"):
        assert piece in text
    assert "a&#124;b" in TABLE.markdown()


def test_json_and_csv_hold_the_fields():
    found = json.loads(json.dumps(TABLE.json(), allow_nan=False))
    assert list(found) == ["table", "title", "kind", "of", "rows", "caption"]
    assert found["rows"] == [dict(row.fields) for row in TABLE.rows]
    assert found["caption"] == "A note on [i]all[/i]. Another."
    lines = list(csv_format.DictReader(io.StringIO(csv([TABLE, TABLE]))))
    assert [line["name"] for line in lines] == [*ODD, *ODD]
    assert {(line["table"], line["kind"], line["of.model"]) for line in lines} == {
        ("odd", "counted", "nano")
    }


def test_parts_are_lists_of_their_own_even_where_they_are_empty():
    rows = (Row(("a", "1"), {"a": 1}), Row(("b", "2"), {"b": 2}, part="controls"), Row(("c", "3")))
    found = Table("t", "", ("x", "y"), rows, parts=("rows", "controls", "others")).json()
    assert (found["rows"], found["controls"], found["others"]) == ([{"a": 1}], [{"b": 2}], [])


def test_tables_of_different_fields_share_one_csv():
    one = Table("one", "", ("x",), (Row(("a",), {"a": 1, "kind": "mine"}),), facts={"kind": "fact"})
    two = Table("two", "", ("x",), (Row(("b",), {"b": None}),))
    first, second = csv_format.DictReader(io.StringIO(csv([one, two])))
    assert (first["a"], first["b"], first["kind"]) == ("1", "", "fact")
    assert (second["a"], second["b"], second["kind"]) == ("", "", "")


def test_breaks_and_tabs_do_not_make_further_rows():
    table = Table(
        "t",
        "",
        ("x", "y"),
        (
            Row(
                ("a\tb\nc", "1"),
            ),
        ),
    )
    assert table.plain() == "x\ty\na b c\t1\n"
    assert table.markdown() == "| x | y |\n|---|---:|\n| a b c | 1 |\n"


@settings(deadline=None, max_examples=40)
@given(st.integers(15, 120), st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_columns_that_do_not_fit_go_to_a_further_table(width, widths):
    columns = ("name", *(f"h{i}" for i in range(len(widths))))
    cells = tuple(str(i) * size for i, size in enumerate(widths))
    text = drawn(Table("t", "", columns, (Row(("row", *cells)),)), width)
    assert max(map(len, text.split("\n"))) <= width
    words = text.split()
    assert all(text in words for text in (*cells, *columns))
    assert words.count("row") == words.count("name")


def test_rows_that_a_further_table_says_nothing_of_are_left_out_there():
    rows = (Row(("whole", "1" * 20, "2" * 20)), Row(("half", "3" * 20, DASH)))
    table = Table("t", "", ("name", "first", "second"), rows)
    assert (drawn(table, 30).count("whole"), drawn(table, 30).count("half")) == (2, 1)
    assert (drawn(table, 80).count("whole"), drawn(table, 80).count("half")) == (1, 1)


def test_sections_are_parted():
    rows = [Row(("a", "1"), section="x"), Row(("b", "2"), section="x"), Row(("c", "3"))]
    lines = drawn(Table("t", "", ("name", "n"), tuple(rows))).split("\n")
    assert [line[:1].strip() for line in lines[2:6]] == ["a", "b", "", "c"]


def test_words_stand_left_and_numbers_right():
    table = Table("t", "", ("a", "b", "c"), (Row(("x", "y", "1")),), words=(0, 1))
    assert "|---|---|---:|" in table.markdown()


def test_an_empty_table_is_a_header():
    empty = Table("t", "Nothing", ("name", "n"), ())
    assert empty.plain() == "Nothing\nname\tn\n"
    assert empty.json() == {"table": "t", "title": "Nothing", "rows": [], "caption": ""}
    assert "name" in drawn(empty)
    assert csv([empty]) == "table\n"
    alone = Table("t", "", ("name",), (Row(("a",)),))
    assert "a" in drawn(alone).split()


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (duration(0.00085), "850 µs"),
        (duration(59.94), "59.9 s"),
        (duration(7500), "2 h 05 min"),
        (length(45), "45 s"),
        (length(450), "7 min 30 s"),
        (length(600), "10 min"),
        (precise(0.000796), "796 µs"),
        (precise(0.00851), "8.51 ms"),
        (precise(3.72), "3.72 s"),
        (precise(0), "0 s"),
        (interval(0.625, 0.55, 0.69), "62.5 (55-69)"),
        (probability(0.0004), "<0.001"),
        (probability(0.012), "0.012"),
    ],
)
def test_numbers_for_people(shown, text):
    assert shown == text
