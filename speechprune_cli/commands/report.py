"""`speechprune report`: finished runs side by side, as tables and curves."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from speechprune_cli.errors import UsageError, one_line
from speechprune_cli.options import OutputOptions, argument, grouped, showing
from speechprune_cli.output import Output
from speechprune_cli.report import figures
from speechprune_cli.report.files import check_destination

if TYPE_CHECKING:
    from speechprune_cli.bench.results import Results

NOT_WRITTEN = (OSError, ValueError, TypeError, AttributeError, RecursionError, UsageError)
Folders = Annotated[list[Path], argument("FOLDER", "Folders of finished runs.")]


@dataclass(frozen=True)
class ReportOptions:
    """What is compared, and how it comes out."""

    versus: str | None = showing("One method against all others, with paired tests.", "METHOD")
    plot: Path | None = showing(
        "Accuracy and key recall over the rate, as .png, .svg or .pdf; with --versus, accuracies "
        "under each other.",
        "FILE",
    )
    markdown: bool = showing("Tables for a page instead of a terminal.")


@grouped
def report(folders: Folders, *, shown: ReportOptions, output: OutputOptions) -> None:
    """Show finished runs: one in full, several side by side."""
    out = output.open()
    if shown.plot is not None:
        check_destination(shown.plot, "--plot", figures.FORMATS)
        figures.check_drawable("--plot", "matplotlib")
    if shown.versus is None:
        show_runs(out, folders, shown)
    else:
        show_versus(out, folders, shown, shown.versus)
    if shown.plot is not None:
        out.note(f"wrote {shown.plot}")


def show_runs(out: Output, folders: Sequence[Path], shown: ReportOptions) -> None:
    """One table in full, or all of them in the columns of one; drawn where asked for."""
    from speechprune_cli.bench.tables import results_table
    from speechprune_cli.report.compare import compared
    from speechprune_cli.report.curves import curves

    runs = [(folder, results) for folder in dict.fromkeys(folders) for results in read(folder)]
    found = [results for _, results in runs]
    for folder, results in runs:
        out.record({"folder": str(folder), **results_table(results).json()})
    table = results_table(found[0]) if len(found) == 1 else compared(found)
    out.tables([table], "markdown" if shown.markdown else "")
    if shown.plot is not None:
        curves(found, shown.plot)


def show_versus(out: Output, folders: Sequence[Path], shown: ReportOptions, method: str) -> None:
    """A method of one run against the others. Raises UsageError where the run does not have it."""
    from speechprune_cli.bench.store import Run
    from speechprune_cli.report.forest import forest
    from speechprune_cli.report.versus import Versus

    if len(folders) > 1:
        raise UsageError("--versus compares the methods of one run: give one folder")
    run = Run(folders[0])
    run.read()
    found = Versus.of(run.lines(), method)
    if not found.tests:
        there = ", ".join(sorted({line.method for line in run.lines()}))
        raise UsageError(
            f"{run.folder} has no answers of {method!r} at any rate beside others: it has {there}"
        )
    drawn = [(shown.plot, read(run.folder)[0])] if shown.plot is not None else []
    for test in found.tests:
        out.record({"folder": str(run.folder), **asdict(test)})
    out.tables([found.table()], "markdown" if shown.markdown else "")
    for path, results in drawn:
        forest(results, method, path)


def read(folder: Path) -> list[Results]:
    """All results of a run. Raises UsageError where it is not finished, damaged or not a run."""
    from speechprune_cli.bench.results import Results
    from speechprune_cli.bench.store import Run

    path = folder / "results.json"
    if (folder / "run.json").exists():
        Run(folder).lines()
    try:
        saved = json_format.loads(path.read_text(encoding="utf-8"))
        if not isinstance(saved, list) or not saved:
            raise ValueError("it holds no tables")
        return [Results.from_json(table) for table in saved]
    except FileNotFoundError:
        cure = "give the folder of a run"
        if (folder / "run.json").exists():
            cure = f"finish it with speechprune eval --resume {folder}"
        raise UsageError(f"{folder} holds no results: {cure}") from None
    except KeyError as error:
        raise UsageError(f"{path}: not what a run writes: the key {error} is missing") from error
    except NOT_WRITTEN as error:
        raise UsageError(f"{path}: not what a run writes: {one_line(error)}") from error
