"""`speechprune build`: a spoken benchmark like SPIRAL, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.options import OutputOptions, argument, grouped
from speechprune_cli.options.building import (
    MakingOptions,
    SpeakingOptions,
    WritingOptions,
    settings_of,
)

Target = Annotated[Path | None, argument("OUT", "A folder for it.")]


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
        from speechprune_cli.builder.build import fetch_voices

        with to.progress("fetching") as on_progress:
            chosen = speaking.folder.get("voices_folder", "")
            folder = fetch_voices(speaking.speaker, chosen, on_progress)
        to.note(f"the files of {speaking.speaker} are in {folder}")
        if out is None:
            return
    if out is None:
        raise UsageError("name a folder for the benchmark: speechprune build OUT")
    from speechprune_cli.builder.build import build as make
    from speechprune_cli.builder.report import table

    with to.progress("building") as on_progress:
        built = make(
            out,
            settings=settings_of(writing, speaking),
            on_progress=on_progress,
            **writing.choices,
            **speaking.choices,
            **making.choices,
        )
    found = table(built.verdicts, built.samples, built.folder)
    to.record(found.json())
    to.tables([found])
    to.note(f"run it: {built.evaluation}")
    if built.skewed and making.strict:
        raise SpeechPruneError(f"{out} is skewed: {', '.join(built.skewed)}: see {out}/report.md")
