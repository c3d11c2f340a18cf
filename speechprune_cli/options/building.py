"""What a benchmark that is built consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from speechprune_cli.methods import parse_settings
from speechprune_cli.options.grouping import panel, showing

Names = list[str] | None
writing, speaking = panel("Dialogues and questions"), panel("Speech")
making = panel("Making")


@dataclass(frozen=True)
class WritingOptions:
    """What is said and asked."""

    samples: int = writing("Recordings, a question each.", "N", default=100, min=1)
    seconds: float = writing("Of each, about.", "S", default=90, min=10, max=3600)
    seed: int = writing("For all that is drawn at random.", "N", default=0)
    writer: str = writing("grammar (offline), or llm.", "NAME", default="grammar")
    scenario: Names = writing("lecture, conversation, meeting. Repeatable.", "NAME")
    setting: Names = writing(
        "For writer, speaker and checks: held_out=true (grammar, kokoro: what nano never heard); "
        "endpoint=URL, model=NAME (llm); asr=NAME (wer). Repeatable.",
        "KEY=VALUE",
        "--set",
    )

    @property
    def choices(self) -> dict[str, Any]:
        """As `build` takes them, but for the settings."""
        names = ("samples", "seconds", "seed", "writer")
        scenarios = list(dict.fromkeys(self.scenario)) if self.scenario else None
        return {name: getattr(self, name) for name in names} | {"scenarios": scenarios}


@dataclass(frozen=True)
class SpeakingOptions:
    """Who says it, and where."""

    speaker: str = speaking("kokoro, piper, espeak or styletts2.", "NAME", default="kokoro")
    voices: Path | None = speaking("The speaker's files, if kept elsewhere.", "FOLDER")
    voice: Names = speaking("Only this. Repeatable.", "NAME")
    pause: tuple[float, float] = speaking("Between sentences, s.", "MIN MAX", default=(0.15, 0.6))
    overlap: float = speaking("Share of speakers who do not wait.", "P", default=0.0, min=0, max=1)
    snr: float | None = speaking("Pink noise, so far below speech.", "DB")
    reverb: float | None = speaking("A room with this echo (RT60).", "S")

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

    fetch_voices: bool = making("First get Kokoro's files (328 MB).")
    workers: int = making("Processes, by Ray.", "N", default=1, min=1)
    ray: str | None = making("A Ray cluster to run on, or auto.", "ADDRESS")
    layout: str = showing("jsonl, or spiral (as published).", "NAME", default="jsonl")
    audio_format: Literal["flac", "opus", "wav"] | None = showing(
        "flac (default), opus or wav (spiral's).", "NAME", "--format"
    )
    check: Names = showing("wer, mos, none. Default: what is installed.", "NAME")
    strict: bool = showing("Fail where the set is skewed.")

    @property
    def choices(self) -> dict[str, Any]:
        """As `build` takes them."""
        taken = {name: getattr(self, name) for name in ("layout", "workers", "ray")}
        checks = None if self.check is None else [name for name in self.check if name != "none"]
        return taken | {"format": self.audio_format, "checks": checks}


def settings_of(writing: WritingOptions, speaking: SpeakingOptions) -> dict[str, Any]:
    """All that `--set` and `--voices` say. Raises UsageError."""
    return parse_settings(writing.setting or ()) | speaking.folder
