"""What a benchmark that is built consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from speechprune_cli.methods import parse_settings
from speechprune_cli.options.grouping import output_option, panel

Names = list[str] | None
writing_option, speaking_option = panel("Dialogues and questions"), panel("Speech")
making_option = panel("Making")


@dataclass(frozen=True)
class WritingOptions:
    """What is said and asked."""

    samples: int = writing_option("Recordings, a question each.", default=100, metavar="N", min=1)
    seconds: float = writing_option("Of each, about.", default=90, metavar="S", min=10, max=3600)
    seed: int = writing_option("For all that is drawn at random.", default=0, metavar="N")
    writer: str = writing_option("grammar (offline), or llm.", default="grammar", metavar="NAME")
    scenario: Names = writing_option("lecture, conversation, meeting. Repeatable.", metavar="NAME")
    setting: Names = writing_option(
        "For writer, speaker and checks: held_out=true (grammar, kokoro: what nano never heard); "
        "endpoint=URL, model=NAME (llm); asr=NAME (wer). Repeatable.",
        "--set",
        metavar="KEY=VALUE",
    )

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

    speaker: str = speaking_option(
        "kokoro, piper, espeak or styletts2.", default="kokoro", metavar="NAME"
    )
    voices: Path | None = speaking_option(
        "The speaker's files, if kept elsewhere.", metavar="FOLDER"
    )
    voice: Names = speaking_option("Only this. Repeatable.", metavar="NAME")
    pause: tuple[float, float] = speaking_option(
        "Between sentences, s.", default=(0.15, 0.6), metavar="MIN MAX"
    )
    overlap: float = speaking_option(
        "Share of speakers who do not wait.", default=0.0, metavar="P", min=0, max=1
    )
    snr: float | None = speaking_option("Pink noise, so far below speech.", metavar="DB")
    reverb: float | None = speaking_option("A room with this echo (RT60).", metavar="S")

    @property
    def folder(self) -> dict[str, str]:
        """The setting that says where the voices are."""
        return {"voices_folder": str(self.voices.absolute())} if self.voices else {}

    @property
    def choices(self) -> dict[str, Any]:
        """As `build` takes them, but for the settings."""
        names = ("speaker", "pause", "overlap", "snr", "reverb")
        return {name: getattr(self, name) for name in names} | {"voices": self.voice}


@dataclass(frozen=True)
class MakingOptions:
    """How it is made, and what comes out."""

    fetch_voices: bool = making_option("First get Kokoro's files (328 MB).")
    workers: int = making_option("Processes, by Ray.", default=1, metavar="N", min=1)
    ray: str | None = making_option("A Ray cluster to run on, or auto.", metavar="ADDRESS")
    layout: str = output_option("jsonl, or spiral (as published).", default="jsonl", metavar="NAME")
    audio_format: Literal["flac", "opus", "wav"] | None = output_option(
        "flac (default), opus or wav (spiral's).", "--format", metavar="NAME"
    )
    check: Names = output_option("wer, mos, none. Default: what is installed.", metavar="NAME")
    strict: bool = output_option("Fail where the set is skewed.")

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
