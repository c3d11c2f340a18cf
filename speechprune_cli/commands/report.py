"""`speechprune report`: finished runs side by side, as tables and curves."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechprune_cli import options
from speechprune_cli.errors import UsageError
from speechprune_cli.options import output_option
from speechprune_cli.output import Output
from speechprune_cli.report import figures
from speechprune_cli.report.files import check_destination

if TYPE_CHECKING:
    from speechprune_cli.report.tables import Results

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="FOLDER", help="Folders of finished runs.", show_default=False),
]
Plot = Annotated[
    Path | None,
    output_option(
        metavar="FILE",
        help="Accuracy and key recall over the rate, as .png, .svg or .pdf; with --versus, "
        "accuracies under each other.",
    ),
]
Markdown = Annotated[
    bool, output_option("--markdown", metavar="", help="Tables for a page instead of a terminal.")
]


Versus = Annotated[
    str | None,
    typer.Option(metavar="METHOD", help="One method against all others, with paired tests."),
]


def report(
    folders: Folders,
    *,
    plot: Plot = None,
    versus: Versus = None,
    markdown: Markdown = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show finished runs: one in full, several side by side."""
    from speechprune_cli.report.tables import as_json

    out = Output(json=json, quiet=quiet, verbose=verbose)
    if plot is not None:
        check_destination(plot, "--plot", figures.FORMATS)
        figures.check_drawable("--plot", "matplotlib")
    if versus is not None:
        show_versus(out, folders, versus, markdown)
        if plot is not None:
            from speechprune_cli.report.forest import forest

            forest(read(folders[0])[0], versus, plot)
            out.note(f"wrote {plot}")
        return
    tables = {folder: read(folder) for folder in folders}
    for folder, results in tables.items():
        for table in results:
            out.record({"folder": str(folder), **as_json(table)})
    found = [table for results in tables.values() for table in results]
    show(out, found, markdown)
    if plot is not None:
        from speechprune_cli.report.curves import curves

        curves(found, plot)
        out.note(f"wrote {plot}")


def read(folder: Path) -> list[Results]:
    """All tables of a run. Raises UsageError where it is not finished or not a run."""
    from speechprune_cli.report.tables import from_json

    path = folder / "results.json"
    try:
        return [from_json(table) for table in json_format.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        unfinished = (folder / "run.json").exists()
        cure = (
            f"finish it with speechprune eval --resume {folder}"
            if unfinished
            else "give the folder of a run"
        )
        raise UsageError(f"{folder} holds no results: {cure}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not what a run writes: {error}") from error


def show_versus(out: Output, folders: Sequence[Path], method: str, markdown: bool) -> None:
    """A method of one run against the others. Raises UsageError where the run does not have it."""
    from speechprune_cli.bench.store import Run
    from speechprune_cli.report import versus

    if len(folders) > 1:
        raise UsageError("--versus compares the methods of one run: give one folder")
    run = Run(folders[0])
    run.read()
    found = versus.Versus.of(run.lines(), method)
    if not found.duels:
        raise UsageError(f"{run.folder} has no answers of {method!r} at any rate beside others")
    for duel in found.duels:
        out.record({"folder": str(run.folder), **asdict(duel)})
    if markdown:
        out.text(versus.markdown(found))
    elif out.rich:
        out.show(versus.table(found))
    else:
        out.text(versus.plain(found))


def show(out: Output, found: Sequence[Results], markdown: bool) -> None:
    """One table in full, or all of them in the columns of one."""
    from speechprune_cli.report import compare, tables

    single = found[0] if len(found) == 1 else None
    if markdown:
        out.text(compare.markdown(found) if single is None else tables.markdown(single))
    elif out.rich:
        out.show(compare.table(found) if single is None else tables.table(single))
    else:
        out.text(compare.plain(found) if single is None else tables.plain(single))
