"""`speechprune build`: a spoken benchmark like SPIRAL, from nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.methods import parse_settings
from speechprune_cli.options import Json, Quiet, Verbose
from speechprune_cli.output import Output

if TYPE_CHECKING:
    from speechprune_cli.builder.build import Built

_writing = partial(typer.Option, rich_help_panel="Dialogues and questions")
_speaking = partial(typer.Option, rich_help_panel="Speech")
_making = partial(typer.Option, rich_help_panel="Making")
_output = partial(typer.Option, rich_help_panel="Output")

Names = list[str] | None
Target = Annotated[
    Path | None, typer.Argument(metavar="OUT", help="A folder for it.", show_default=False)
]
Samples = Annotated[int, _writing(metavar="N", min=1, help="Recordings, a question each.")]
Seconds = Annotated[float, _writing(metavar="S", min=10, max=3600, help="Of each, about.")]
Seed = Annotated[int, _writing(metavar="N", help="For all that is drawn at random.")]
Writer = Annotated[str, _writing(metavar="NAME", help="grammar (offline), or llm.")]
Scenarios = Annotated[
    Names,
    _writing("--scenario", metavar="NAME", help="lecture, conversation, meeting. Repeatable."),
]
Settings = Annotated[
    Names,
    _writing(
        "--set",
        metavar="KEY=VALUE",
        help="For writer, speaker and checks: held_out=true (grammar, kokoro: what nano never "
        "heard); endpoint=URL, model=NAME (llm); asr=NAME (wer). Repeatable.",
    ),
]
Speaker = Annotated[str, _speaking(metavar="NAME", help="kokoro, piper, espeak or styletts2.")]
VoicesFolder = Annotated[
    Path | None,
    _speaking("--voices", metavar="FOLDER", help="The speaker's files, if kept elsewhere."),
]
Voices = Annotated[Names, _speaking("--voice", metavar="NAME", help="Only this. Repeatable.")]
Pause = Annotated[tuple[float, float], _speaking(metavar="MIN MAX", help="Between sentences, s.")]
Overlap = Annotated[
    float, _speaking(metavar="P", min=0, max=1, help="Share of speakers who do not wait.")
]
Snr = Annotated[float | None, _speaking(metavar="DB", help="Pink noise, so far below speech.")]
Reverb = Annotated[float | None, _speaking(metavar="S", help="A room with this echo (RT60).")]
FetchVoices = Annotated[
    bool, _making("--fetch-voices", metavar="", help="First get Kokoro's files (328 MB).")
]
Workers = Annotated[int, _making(metavar="N", min=1, help="Processes, by Ray.")]
Cluster = Annotated[
    str | None, _making("--ray", metavar="ADDRESS", help="A Ray cluster to run on, or auto.")
]
Layout = Annotated[str, _output(metavar="NAME", help="jsonl, or spiral (as published).")]
Format = Annotated[
    Literal["flac", "opus", "wav"] | None,
    _output("--format", metavar="NAME", help="flac (default), opus or wav (spiral's)."),
]
Checks = Annotated[
    Names, _output("--check", metavar="NAME", help="wer, mos, none. Default: what is installed.")
]
Strict = Annotated[bool, _output("--strict", metavar="", help="Fail where the set is skewed.")]


def build(
    out: Target = None,
    *,
    samples: Samples = 100,
    seconds: Seconds = 90,
    seed: Seed = 0,
    writer: Writer = "grammar",
    scenario: Scenarios = None,
    setting: Settings = None,
    speaker: Speaker = "kokoro",
    voices: VoicesFolder = None,
    voice: Voices = None,
    pause: Pause = (0.15, 0.6),
    overlap: Overlap = 0.0,
    snr: Snr = None,
    reverb: Reverb = None,
    fetch_voices: FetchVoices = False,
    workers: Workers = 1,
    ray: Cluster = None,
    layout: Layout = "jsonl",
    audio_format: Format = None,
    check: Checks = None,
    strict: Strict = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a spoken benchmark like SPIRAL: dialogues, questions, speech, checks, a card.

    It can be interrupted at any point: the same command goes on.
    """
    output = Output(json=json, quiet=quiet, verbose=verbose)
    folder = {"voices_folder": str(voices.absolute())} if voices else {}
    if fetch_voices:
        _fetch(output, speaker, **folder)
        if out is None:
            return
    if out is None:
        raise UsageError("name a folder for the benchmark: speechprune build OUT")
    from speechprune_cli.builder.build import build as make

    with output.progress("building") as on_progress:
        built = make(
            out,
            samples=samples,
            seconds=seconds,
            seed=seed,
            writer=writer,
            scenarios=list(dict.fromkeys(scenario)) if scenario else None,
            settings=parse_settings(setting or []) | folder,
            speaker=speaker,
            voices=voice,
            pause=pause,
            overlap=overlap,
            snr=snr,
            reverb=reverb,
            layout=layout,
            format=audio_format,
            checks=None if check is None else [name for name in check if name != "none"],
            workers=workers,
            ray=ray,
            on_progress=on_progress,
        )
    _show(output, built)
    if built.skewed and strict:
        raise SpeechPruneError(f"{out} is skewed: {', '.join(built.skewed)}: see {out}/report.md")


def _show(output: Output, built: Built) -> None:
    from speechprune_cli.builder.report import table

    found = table(built.verdicts, built.samples, built.folder)
    output.record(found.json())
    output.show(found)
    if not output.rich:
        output.text(found.plain(explained=not output.quiet))
    output.note(f"run it: {built.evaluation}")


def _fetch(output: Output, speaker: str, voices_folder: str = "") -> None:
    from speechprune_cli.builder.build import fetch_voices

    with output.progress("fetching") as on_progress:
        folder = fetch_voices(speaker, voices_folder, on_progress)
    output.note(f"the files of {speaker} are in {folder}")
