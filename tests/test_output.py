"""Answers as they are shown while they are generated."""

from __future__ import annotations

import io
import sys
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from speechprune_cli.errors import UsageError
from speechprune_cli.escaping import printable
from speechprune_cli.output import Output

WIDTH = 20


class Screen(io.StringIO):
    def isatty(self):
        return True


def streamed(pieces, file) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(WIDTH))
        patch.setattr(sys, "stdout", file)
        with Output().stream() as write:
            for piece in pieces:
                write(piece)
    return file.getvalue()


@given(st.lists(st.text("ab .\n", max_size=WIDTH), max_size=12))
@example(["a" * (WIDTH - 1), "aa a"])  # a word wider than the line, its end and the blank apart
def test_lines_are_broken_between_words_and_nowhere_else(pieces):
    answer = "".join(pieces).lstrip()
    shown = streamed(pieces, Screen())
    assert shown.split() == answer.split()
    assert shown == streamed(answer, Screen()), "however it came"
    for line in shown.split("\n"):
        assert len(line.rstrip()) <= WIDTH or " " not in line.strip()
    if all(len(line) <= WIDTH for line in answer.split("\n")):
        assert shown == answer


@given(st.lists(st.text("ab .\n", max_size=3 * WIDTH), max_size=5))
def test_a_pipe_gets_the_answer_as_it_is(pieces):
    assert streamed(pieces, io.StringIO()) == "".join(pieces).lstrip()


def test_wide_characters_are_words_of_their_own():
    shown = streamed(["报告星期五到期", "他们在北方的图书馆里"], Screen())
    assert [len(line) for line in shown.split("\n")] == [10, 7]


def test_a_word_is_shown_as_soon_as_the_next_begins(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    with Output().stream() as write:
        write("On Fri")
        assert screen.getvalue() == "On"
        write("day at")
        assert screen.getvalue() == "On Friday"
    assert screen.getvalue() == "On Friday at"


@pytest.mark.parametrize("file", [Screen, io.StringIO])
@pytest.mark.parametrize(("said", "shown"), [("On Fri", "On Fri\n"), ("", "")])
def test_an_answer_that_breaks_off_ends_its_line(file, said, shown, monkeypatch):
    found = file()
    monkeypatch.setattr(sys, "stdout", found)
    with suppress(UsageError), Output().stream() as write:
        write(said)
        raise UsageError("why")
    assert found.getvalue() == shown


@pytest.mark.parametrize(
    "name", ["rec[/b].wav", "talk [draft].wav", "[bold]", ":smile:", "a\x1b[2Jb"]
)
def test_names_are_no_markup(name, monkeypatch):
    screen = Screen()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", screen)
    out = Output()
    with out.progress(f"encoding {name}") as on_progress:
        on_progress(1, 2, name)
    out.note(name)
    out.warning(name)
    shown = screen.getvalue()
    assert shown.count(printable(name)) >= 4
    assert "\x1b[2J" not in shown


def test_headings_are_no_markup(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    Output().heading("Is [/b] :smile: a tag?")
    assert "Is [/b] :smile: a tag?" in screen.getvalue()
