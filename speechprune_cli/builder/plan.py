"""Every choice of a build that its data depends on: saved in `build.json`, compared to go on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from speechprune_cli.builder.script import SCENARIOS
from speechprune_cli.errors import UsageError

RATE = 24_000  # of the recordings, as SPIRAL's
LUFS = -23.0  # loudness of the recordings, as SPIRAL's (EBU R 128)

# where an option is not named like the choice
OPTIONS = {"settings": "--set", "voices": "--voice", "scenarios": "--scenario"}


class Choices(TypedDict, total=False):
    """A plan as far as it is chosen; what is None or left out is the plan's default."""

    samples: int
    seconds: float
    seed: int
    writer: str
    speaker: str
    settings: dict[str, Any]
    voices: Sequence[str] | None
    scenarios: Sequence[str] | None
    pause: tuple[float, float]
    overlap: float
    snr: float | None
    reverb: float | None
    layout: str
    format: Literal["flac", "opus", "wav"] | None


class Plan(BaseModel):
    """The resolved configuration of a build."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: Annotated[int, Field(ge=1)] = 100
    seconds: Annotated[float, Field(ge=10, le=3600)] = 90.0
    seed: int = 0
    writer: str = "grammar"
    speaker: str = "kokoro"
    settings: dict[str, Any] = {}  # of the writer and of the speaker; each is told what it knows
    voices: tuple[str, ...] = ()  # names; none: all of the speaker's
    scenarios: tuple[str, ...] = SCENARIOS
    pause: tuple[float, float] = (0.15, 0.6)  # seconds of silence after a sentence, from, to
    overlap: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of changes of speaker with no wait
    snr: float | None = None  # pink noise, so many decibels below the speech
    reverb: float | None = None  # time in which the echo of a room dies away by 60 dB, in seconds
    layout: str = "jsonl"
    format: Literal["flac", "opus", "wav"] = "flac"

    def model_post_init(self, _context: Any) -> None:
        """Raises UsageError for choices that do not go together."""
        shortest, longest = self.pause
        if not 0 <= shortest <= longest <= 10:
            wanted = "give the shortest and the longest, 0 to 10 s"
            raise UsageError(f"--pause {shortest:g} {longest:g}: {wanted}")
        if unknown := sorted(set(self.scenarios) - set(SCENARIOS)):
            raise UsageError(f"--scenario {unknown[0]}: choose from {', '.join(SCENARIOS)}")
        if self.reverb is not None and not 0 < self.reverb <= 5:
            raise UsageError(f"--reverb {self.reverb:g}: give more than 0 and at most 5 s")

    def differences(self, other: Plan, aside: Collection[str] = ()) -> list[str]:
        """Options in which two plans differ, with both values, some settings left `aside`."""
        mine, others = self._options(aside), other._options(aside)
        return [
            f"{name} {mine.get(name)} there, {others.get(name)} here"
            for name in {**mine, **others}
            if mine.get(name) != others.get(name)
        ]

    def _options(self, aside: Collection[str]) -> dict[str, Any]:
        """Every choice by its option; a setting counts by itself."""
        options = {OPTIONS.get(name, f"--{name}"): value for name, value in self}
        settings = options.pop("--set")
        return options | {f"--set {k}": v for k, v in settings.items() if k not in aside}
