"""Which recording, which model, where it runs, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from speechprune_cli.errors import UsageError
from speechprune_cli.options.grouping import answering, argument, by_environment, panel, rare

if TYPE_CHECKING:
    from speechprune_cli.config import Preset
    from speechprune_cli.flow import Transcript
    from speechprune_cli.output import Output
    from speechprune_cli.pipeline import Session

AudioArgument = Annotated[
    str,
    argument(
        "AUDIO", "A recording: wav, flac, ogg, opus, mp3, m4a, mp4, webm; - reads standard input."
    ),
]
Position = Literal["repacked", "original"] | None
POSITION = "Positions of the retained tokens: repacked or original. Default: the preset's."
loading, transcribing = panel("Model"), panel("Transcript")


@dataclass(frozen=True)
class PlaceOptions:
    """Where and how a model runs."""

    device: str = loading("auto, cpu, cuda, cuda:N or mps.", "DEVICE", default="auto", env=True)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = loading(
        "auto, float32, bfloat16 or float16.", "TYPE", default="auto", env=True
    )
    quantize: Literal["none", "int8", "nf4"] = rare(
        "none, int8 or nf4, of the language model.", "TYPE", default="none", env=True
    )
    revision: str | None = rare("Branch, tag or commit of a Hub model.", "REV", env=True)
    offline: bool = rare("Never use the network.", env=True)

    @property
    def place(self) -> dict[str, Any]:
        """As `load` takes it."""
        names = ("revision", "device", "dtype", "quantize", "offline")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ModelOptions(PlaceOptions):
    """Which model, and where it runs."""

    model: str | None = loading(
        "A preset (see speechprune models), a folder, a Hub id, or RECOGNISER+READER. Default: "
        "that of speechprune models use, else nano.",
        "NAME",
        "--model",
        "-m",
        env=True,
    )
    language: str | None = loading(
        "What is spoken, where a transcript is written: en, german, ... Default: as it sounds.",
        "NAME",
        env=True,
    )
    no_cache: bool = rare("Encode again, and keep nothing.", env=True)

    @property
    def name(self) -> str:
        """Of the model, or of this user's default. Raises UsageError."""
        from speechprune_cli.config import default_model

        return self.model or default_model()

    @property
    def preset(self) -> Preset:
        """Of the model named. Raises ModelError, UsageError."""
        from speechprune_cli.config import resolve_model

        return resolve_model(self.name)

    @property
    def spoken(self) -> str | None:
        """The language; that of the environment counts for models that write transcripts alone."""
        from speechprune_cli.config import TRANSCRIPT

        heard = by_environment("language") and self.preset.family != TRANSCRIPT
        return None if heard else self.language

    @property
    def identity(self) -> dict[str, Any]:
        """All that answers depend on beside the preset, but not who reads the prompts."""
        place = {name: told for name, told in self.place.items() if name != "offline"}
        return {**place, "language": self.spoken}

    def load(self, out: Output, server: str | None = None) -> Session:
        """Load the model, saying where it runs and why."""
        from speechprune_cli.pipeline import load

        heard, cache = self.spoken, not self.no_cache
        session = load(self.name, language=heard, cache=cache, server=server, **self.place)
        for decision in session.decisions:
            out.note(decision)
        return session


@dataclass(frozen=True)
class ServerOptions:
    """Who reads the prompts, if not the model in this process."""

    server: str | None = loading(
        "An OpenAI-compatible server (vLLM, llama.cpp, Ollama) that reads the prompts, as "
        "http://localhost:8000; then no decoder is loaded here. In `ask`, local: the speechprune "
        "serve that runs here with the same model and options.",
        "URL",
        env=True,
    )

    @property
    def is_local(self) -> bool:
        """Whether it is a server of our own, on this machine."""
        return self.server == "local"

    @property
    def url(self) -> str | None:
        """Of a server elsewhere; `local` in the environment is for `ask` alone, and not heard.

        Raises UsageError for what is no address.
        """
        if self.is_local and by_environment("server"):
            return None
        if self.is_local:
            raise UsageError("--server local is for ask alone: give the URL of another server")
        if self.server is not None:
            from speechprune_cli.remote.address import Address

            Address.parse(self.server)
        return self.server


@dataclass(frozen=True)
class RecordingOptions:
    """What of a recording is read."""

    track: int | None = rare(
        "Of several audio tracks that one. Default: as the file says, else 1.", "N", min=1
    )


@dataclass(frozen=True)
class TranscriptOptions:
    """What was said, written and brought; of models that read transcripts alone."""

    transcript: Path | None = transcribing(
        "Write what was said: .srt, .vtt, .txt or .json, with times.", "FILE"
    )
    from_transcript: Path | None = transcribing(
        "Read this .srt, .vtt or .json instead of recognising.", "FILE"
    )

    def check(self, preset: Preset) -> None:
        """Raise UsageError for a file that cannot be written, and for a model that needs none."""
        if not (self.transcript or self.from_transcript):
            return
        from speechprune_cli.config import TRANSCRIPT
        from speechprune_cli.report.files import check_destination
        from speechprune_cli.transcripts.files import WRITERS

        check_destination(self.transcript, "--transcript", tuple(WRITERS))
        if preset.family != TRANSCRIPT:
            raise UsageError(f"{preset.name} hears by itself: transcripts are for readers, as mini")

    @property
    def brought(self) -> Transcript | None:
        """The transcript to be read. Raises UsageError for a file that is none."""
        if self.from_transcript is None:
            return None
        from speechprune_cli.transcripts.files import read_transcript

        return read_transcript(self.from_transcript)


@dataclass(frozen=True)
class AnswerOptions:
    """How the model answers."""

    choice: list[str] | None = answering(
        "An option to choose from, by likelihood. Repeatable.", "TEXT"
    )
    max_new_tokens: int = answering("Longest answer.", "N", default=64, min=1, env=True)
    show: bool = answering("The words that were read, with their times; of a transcript.")
    position: Position = rare(POSITION, "MODE", env=True)
