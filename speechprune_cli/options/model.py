"""Which recording, which model, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from speechprune_cli.options.grouping import answer_option, model_option, rare_option

if TYPE_CHECKING:
    from speechprune_cli.config import Preset
    from speechprune_cli.output import Output
    from speechprune_cli.pipeline import Session

AudioArgument = Annotated[
    str,
    typer.Argument(
        metavar="AUDIO",
        help="A recording: wav, flac, ogg, opus, mp3, m4a, mp4, webm; - reads standard input.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class PlaceOptions:
    """Where and how a model runs."""

    device: Annotated[
        str,
        model_option(
            envvar="SPEECHPRUNE_DEVICE", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps."
        ),
    ] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        model_option(
            envvar="SPEECHPRUNE_DTYPE", metavar="TYPE", help="auto, float32, bfloat16 or float16."
        ),
    ] = "auto"
    quantize: Annotated[
        Literal["none", "int8", "nf4"],
        rare_option(
            envvar="SPEECHPRUNE_QUANTIZE", metavar="TYPE", help="none, int8 or nf4; CUDA only."
        ),
    ] = "none"
    revision: Annotated[
        str | None,
        rare_option(
            envvar="SPEECHPRUNE_REVISION",
            metavar="REV",
            help="Branch, tag or commit of a Hub model.",
        ),
    ] = None
    offline: Annotated[
        bool,
        rare_option(
            "--offline", envvar="SPEECHPRUNE_OFFLINE", metavar="", help="Never use the network."
        ),
    ] = False

    @property
    def place(self) -> dict[str, Any]:
        """As `load` takes it."""
        return {
            "revision": self.revision,
            "device": self.device,
            "dtype": self.dtype,
            "quantize": self.quantize,
            "offline": self.offline,
        }


@dataclass(frozen=True)
class ModelOptions(PlaceOptions):
    """Which model, and where it runs."""

    model: Annotated[
        str,
        model_option(
            "--model",
            "-m",
            envvar="SPEECHPRUNE_MODEL",
            metavar="NAME",
            help="A preset (see speechprune models), a folder, or a Hub id.",
        ),
    ] = "nano"
    no_cache: Annotated[
        bool,
        rare_option(
            "--no-cache",
            envvar="SPEECHPRUNE_NO_CACHE",
            metavar="",
            help="Encode again, and keep nothing.",
        ),
    ] = False

    @property
    def preset(self) -> Preset:
        """Of the model named. Raises ModelError, UsageError."""
        from speechprune_cli.config import resolve_model

        return resolve_model(self.model)

    def load(self, out: Output) -> Session:
        """Load the model, saying where it runs and why."""
        from speechprune_cli.pipeline import load

        session = load(self.model, cache=not self.no_cache, **self.place)
        for decision in session.model.decisions:
            out.note(decision)
        return session


@dataclass(frozen=True)
class AnswerOptions:
    """How the model answers."""

    max_new_tokens: Annotated[
        int,
        answer_option(
            envvar="SPEECHPRUNE_MAX_NEW_TOKENS", metavar="N", min=1, help="Longest answer."
        ),
    ] = 64
    position: Annotated[
        Literal["repacked", "original"] | None,
        rare_option(
            envvar="SPEECHPRUNE_POSITION",
            metavar="MODE",
            help="Positions of the retained tokens: repacked or original. Default: the preset's.",
        ),
    ] = None
