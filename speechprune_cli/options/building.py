"""What a benchmark that is built consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from speechprune_cli.methods import parse_settings
from speechprune_cli.options.grouping import output_option, panel

Names = list[str] | None
writing_option, speaking_option = panel("Dialogues and questions"), panel("Speech")
making_option = panel("Making")


@dataclass(frozen=True)
class WritingOptions:
    """What is said and asked."""

    samples: Annotated[
        int, writing_option(metavar="N", min=1, help="Recordings, a question each.")
    ] = 100
    seconds: Annotated[
        float, writing_option(metavar="S", min=10, max=3600, help="Of each, about.")
    ] = 90
    seed: Annotated[int, writing_option(metavar="N", help="For all that is drawn at random.")] = 0
    writer: Annotated[str, writing_option(metavar="NAME", help="grammar (offline), or llm.")] = (
        "grammar"
    )
    scenario: Annotated[
        Names,
        writing_option(
            "--scenario", metavar="NAME", help="lecture, conversation, meeting. Repeatable."
        ),
    ] = None
    setting: Annotated[
        Names,
        writing_option(
            "--set",
            metavar="KEY=VALUE",
            help="For writer, speaker and checks: held_out=true (grammar, kokoro: what nano never "
            "heard); endpoint=URL, model=NAME (llm); asr=NAME (wer). Repeatable.",
        ),
    ] = None

    @property
    def choices(self) -> dict[str, Any]:
        """As `build` takes them, but for the settings."""
        return {
            "samples": self.samples,
            "seconds": self.seconds,
            "seed": self.seed,
            "writer": self.writer,
            "scenarios": list(dict.fromkeys(self.scenario)) if self.scenario else None,
        }


@dataclass(frozen=True)
class SpeakingOptions:
    """Who says it, and where."""

    speaker: Annotated[
        str, speaking_option(metavar="NAME", help="kokoro, piper, espeak or styletts2.")
    ] = "kokoro"
    voices: Annotated[
        Path | None,
        speaking_option(
            "--voices", metavar="FOLDER", help="The speaker's files, if kept elsewhere."
        ),
    ] = None
    voice: Annotated[
        Names, speaking_option("--voice", metavar="NAME", help="Only this. Repeatable.")
    ] = None
    pause: Annotated[
        tuple[float, float], speaking_option(metavar="MIN MAX", help="Between sentences, s.")
    ] = (0.15, 0.6)
    overlap: Annotated[
        float,
        speaking_option(metavar="P", min=0, max=1, help="Share of speakers who do not wait."),
    ] = 0.0
    snr: Annotated[
        float | None, speaking_option(metavar="DB", help="Pink noise, so far below speech.")
    ] = None
    reverb: Annotated[
        float | None, speaking_option(metavar="S", help="A room with this echo (RT60).")
    ] = None

    @property
    def folder(self) -> dict[str, str]:
        """The setting that says where the voices are."""
        return {"voices_folder": str(self.voices.absolute())} if self.voices else {}

    @property
    def choices(self) -> dict[str, Any]:
        """As `build` takes them, but for the settings."""
        return {
            "speaker": self.speaker,
            "voices": self.voice,
            "pause": self.pause,
            "overlap": self.overlap,
            "snr": self.snr,
            "reverb": self.reverb,
        }


@dataclass(frozen=True)
class MakingOptions:
    """How it is made, and what comes out."""

    fetch_voices: Annotated[
        bool, making_option("--fetch-voices", metavar="", help="First get Kokoro's files (328 MB).")
    ] = False
    workers: Annotated[int, making_option(metavar="N", min=1, help="Processes, by Ray.")] = 1
    ray: Annotated[
        str | None,
        making_option("--ray", metavar="ADDRESS", help="A Ray cluster to run on, or auto."),
    ] = None
    layout: Annotated[
        str, output_option(metavar="NAME", help="jsonl, or spiral (as published).")
    ] = "jsonl"
    audio_format: Annotated[
        Literal["flac", "opus", "wav"] | None,
        output_option("--format", metavar="NAME", help="flac (default), opus or wav (spiral's)."),
    ] = None
    check: Annotated[
        Names,
        output_option(
            "--check", metavar="NAME", help="wer, mos, none. Default: what is installed."
        ),
    ] = None
    strict: Annotated[
        bool, output_option("--strict", metavar="", help="Fail where the set is skewed.")
    ] = False

    @property
    def choices(self) -> dict[str, Any]:
        """As `build` takes them."""
        checks = None if self.check is None else [name for name in self.check if name != "none"]
        return {
            "layout": self.layout,
            "format": self.audio_format,
            "checks": checks,
            "workers": self.workers,
            "ray": self.ray,
        }


def settings_of(writing: WritingOptions, speaking: SpeakingOptions) -> dict[str, Any]:
    """All that `--set` and `--voices` say. Raises UsageError."""
    return parse_settings(writing.setting or ()) | speaking.folder
