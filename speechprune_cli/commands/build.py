"""`speechprune build`: a spoken benchmark like SPIRAL, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.options import OutputOptions, grouped
from speechprune_cli.options.building import (
    MakingOptions,
    SpeakingOptions,
    WritingOptions,
    settings_of,
)
from speechprune_cli.output import Output

if TYPE_CHECKING:
    from speechprune_cli.builder.build import Built

Target = Annotated[
    Path | None, typer.Argument(metavar="OUT", help="A folder for it.", show_default=False)
]


@grouped
def build(
    out: Target = None,
    *,
    writing: WritingOptions,
    speaking: SpeakingOptions,
    making: MakingOptions,
    output: OutputOptions,
) -> None:
    """Make a spoken benchmark like SPIRAL: dialogues, questions, speech, checks, a card.

    It can be interrupted at any point: the same command goes on.
    """
    to = output.open()
    if making.fetch_voices:
        fetch(to, speaking)
        if out is None:
            return
    if out is None:
        raise UsageError("name a folder for the benchmark: speechprune build OUT")
    from speechprune_cli.builder.build import build as make

    with to.progress("building") as on_progress:
        built = make(
            out,
            settings=settings_of(writing, speaking),
            on_progress=on_progress,
            **writing.choices,
            **speaking.choices,
            **making.choices,
        )
    show(to, built)
    if built.skewed and making.strict:
        raise SpeechPruneError(f"{out} is skewed: {', '.join(built.skewed)}: see {out}/report.md")


def show(output: Output, built: Built) -> None:
    """Whether the set is fair, and how to run it."""
    from speechprune_cli.builder.report import table

    found = table(built.verdicts, built.samples, built.folder)
    output.record(found.json())
    output.tables([found])
    output.note(f"run it: {built.evaluation}")


def fetch(output: Output, speaking: SpeakingOptions) -> None:
    """The speaker's files, behind a progress bar."""
    from speechprune_cli.builder.build import fetch_voices

    with output.progress("fetching") as on_progress:
        folder = fetch_voices(
            speaking.speaker, speaking.folder.get("voices_folder", ""), on_progress
        )
    output.note(f"the files of {speaking.speaker} are in {folder}")
