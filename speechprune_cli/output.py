"""Where everything goes: the result to stdout, all else to stderr.

On a terminal stdout also carries what people like to see beside the result; in a pipe, with
`--quiet` and with `--json` it carries the result alone. Notes and progress need a terminal at
stderr (or `--verbose`), what takes minutes is announced in a pipe too; warnings and errors always
come out.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.escaping import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from speechprune_cli.table import Table

    class OnProgress(Protocol):
        """Told how much is done, of how much, and what else the bar should say."""

        def __call__(self, done: int, total: int, note: str = "", /) -> None: ...


BETWEEN_WORDS = re.compile(r"(?=\s)|(?<=[\u2e80-\u9fff\uff00-\uffef])")  # or wide characters


@dataclass(frozen=True)
class Output:
    """The modes of one command line."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @cached_property
    def rich(self) -> bool:
        """Whether stdout is for people: a terminal, and neither `--json` nor `--quiet`."""
        return sys.stdout.isatty() and not self.json and not self.quiet

    @cached_property
    def notes(self) -> bool:
        """Whether stderr is for people who want to know what is being done."""
        return self.verbose or (sys.stderr.isatty() and not self.quiet)

    @cached_property
    def stdout(self) -> Console:
        """Where results are drawn for people."""
        from rich.console import Console

        return Console(file=sys.stdout, highlight=False)

    @cached_property
    def stderr(self) -> Console:
        """Where notes and progress go."""
        from rich.console import Console

        return Console(file=sys.stderr, highlight=False)

    def text(self, piece: str) -> None:
        """A piece of the result as plain text, at once; nothing in JSON mode."""
        if not self.json:
            sys.stdout.write(piece)
            sys.stdout.flush()

    @contextmanager
    def stream(self) -> Iterator[Callable[[str], None]]:
        """`text` for an answer while it is generated, without the blanks it may begin with.

        On a terminal its lines are broken between words.
        """
        begun = False
        lines = _Wrapping(self.text, self.stdout.width) if self.rich else None

        def write(piece: str) -> None:
            nonlocal begun
            piece = piece if begun else piece.lstrip()
            begun = begun or bool(piece)
            (lines.write if lines else self.text)(piece)

        try:
            yield write
        except SpeechPruneError:
            if lines:
                lines.finish()
            if begun:
                self.text("\n")  # what is said of it has a line of its own
            raise
        finally:
            if lines:
                lines.finish()

    def record(self, fields: Mapping[str, Any]) -> None:
        """The result as one line of JSON, in JSON mode."""
        if self.json:
            text = json_text(fields)
            try:
                text.encode(sys.stdout.encoding or "utf-8")
            except UnicodeEncodeError:
                text = json.dumps(fields, allow_nan=False)
            print(text, flush=True)

    def show(self, *renderables: RenderableType) -> None:
        """What people see beside the result."""
        if self.rich:
            self.stdout.print(*renderables, sep="\n")

    def tables(self, tables: Sequence[Table], form: Literal["", "csv", "markdown"] = "") -> None:
        """Drawn on a terminal, plain in a pipe, or in the form asked for; nothing in JSON mode.

        With `--quiet` they are not explained in a pipe.
        """
        from speechprune_cli.table import csv

        if form == "csv":
            self.text(csv(tables))
        elif form == "markdown":
            self.text("\n".join(table.markdown() for table in tables))
        elif self.rich:
            self.show(*tables)
        else:
            self.text("\n".join(table.plain(explained=not self.quiet) for table in tables))

    def heading(self, text: str) -> None:
        """A line above a result, for people."""
        if self.rich:
            self.stdout.print(printable(text), style="bold", markup=False, emoji=False)

    def note(self, message: str) -> None:
        """One line for people about what is being done."""
        if self.notes:
            self._line(message, "dim")

    def beginning(self, message: str) -> None:
        """One line before what may take minutes, for people and for logs."""
        if not self.quiet:
            self._line(message)

    def detail(self, message: str) -> None:
        """One more line, for who asked with `--verbose`."""
        if self.verbose:
            self.note(message)

    def warning(self, message: str) -> None:
        """One line about what may make the result worth less; never held back."""
        self._line(f"warning: {message}")

    def remarks(
        self, remarks: Iterable[tuple[Literal["warning", "note", "detail"], str]], about: str = ""
    ) -> None:
        """Lines, each for those whom it concerns; warnings begin with what they are `about`."""
        for level, text in remarks:
            getattr(self, level)(f"{about}: {text}" if about and level == "warning" else text)

    def _line(self, message: str, style: str | None = None) -> None:
        """To stderr: wrapped between words on a terminal, one line everywhere else."""
        wide = not sys.stderr.isatty()
        text = printable(message)
        self.stderr.print(text, style=style, markup=False, emoji=False, soft_wrap=wide)

    @contextmanager
    def progress(self, what: str) -> Iterator[OnProgress]:
        """A bar on stderr that is gone when done: `on_progress(done, total, note)`."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda _done, _total, _note="": None
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        told, note = (
            TextColumn(name, markup=False) for name in ("{task.description}", "{task.fields[note]}")
        )
        columns = (told, BarColumn(), TimeRemainingColumn(), note)
        with Progress(*columns, console=self.stderr, transient=True) as progress:
            task = progress.add_task(printable(what), total=None, note="")

            def on_progress(done: int, total: int, note: str = "", /) -> None:
                progress.update(task, completed=done, total=total, note=printable(note))

            yield on_progress


class _Wrapping:
    """Text that comes in pieces, broken between words; a word is shown once it is whole."""

    def __init__(self, show: Callable[[str], None], width: int) -> None:
        self.show, self.width = show, width
        self.column, self.open = 0, ""

    def write(self, piece: str) -> None:
        """What is whole of it, and of what came before."""
        *whole, self.open = BETWEEN_WORDS.split(self.open + piece)
        for word in whole:
            self._put(word)

    def finish(self) -> None:
        """The last word."""
        self._put(self.open)
        self.open = ""

    def _put(self, word: str) -> None:
        """A word with the blank before it."""
        from rich.cells import cell_len

        if word.startswith("\n"):
            self.column = 0
        elif word and self.column and self.column + cell_len(word) > self.width:
            self.column, word = 0, f"\n{word.lstrip()}"
        self.column += cell_len(word.lstrip("\n"))
        self.show(word)
