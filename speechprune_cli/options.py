"""The options that commands share: one wording, one environment variable, one check each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from speechprune_cli.errors import UsageError
from speechprune_cli.methods import parse_settings, parse_value
from speechprune_cli.pruners import PRUNERS, get_pruner

METHODS = PRUNERS.names
pruner_class = PRUNERS.part

if TYPE_CHECKING:
    from speechprune_cli.config import Preset

_model = partial(typer.Option, rich_help_panel="Model", show_envvar=False)
_pruning = partial(typer.Option, rich_help_panel="Pruning", show_envvar=False)
answer_option = partial(typer.Option, rich_help_panel="Answer", show_envvar=False)
bench_option = partial(typer.Option, rich_help_panel="Benchmark", show_envvar=False)
output_option = partial(typer.Option, rich_help_panel="Output", show_envvar=False)

ENVIRONMENT = (
    "Options of the model and the answer, --method, --rate, --budget and --seed that are not given "
    "are read from the environment: --model from SPEECHPRUNE_MODEL, and so on."
)

Recording = Annotated[
    str,
    typer.Argument(
        metavar="AUDIO",
        help="A recording: wav, flac, ogg, opus, mp3, m4a, mp4, webm; - reads standard input.",
        show_default=False,
    ),
]
Model = Annotated[
    str,
    _model(
        "--model",
        "-m",
        envvar="SPEECHPRUNE_MODEL",
        metavar="NAME",
        help="A preset (see speechprune models), a folder, or a Hub id.",
    ),
]
Revision = Annotated[
    str | None,
    _model(
        envvar="SPEECHPRUNE_REVISION", metavar="REV", help="Branch, tag or commit of a Hub model."
    ),
]
Device = Annotated[
    str,
    _model(envvar="SPEECHPRUNE_DEVICE", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps."),
]
DType = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    _model(envvar="SPEECHPRUNE_DTYPE", metavar="TYPE", help="auto, float32, bfloat16 or float16."),
]
Quantize = Annotated[
    Literal["none", "int8", "nf4"],
    _model(envvar="SPEECHPRUNE_QUANTIZE", metavar="TYPE", help="none, int8 or nf4; CUDA only."),
]
Offline = Annotated[
    bool,
    _model("--offline", envvar="SPEECHPRUNE_OFFLINE", metavar="", help="Never use the network."),
]
NoCache = Annotated[
    bool,
    _model(
        "--no-cache",
        envvar="SPEECHPRUNE_NO_CACHE",
        metavar="",
        help="Encode again, and keep nothing.",
    ),
]
Method = Annotated[
    str | None,
    _pruning(
        envvar="SPEECHPRUNE_METHOD",
        metavar="NAME",
        help=f"{', '.join(METHODS)}. Default: the preset's.",
    ),
]
Rate = Annotated[
    float | None,
    _pruning(
        envvar="SPEECHPRUNE_RATE",
        metavar="R",
        help="Share of the budget to drop, from 0 to below 1. Default: the preset's.",
    ),
]
Methods = Annotated[
    list[str] | None,
    _pruning(
        "--method",
        envvar="SPEECHPRUNE_METHOD",
        metavar="NAME",
        help=f"{', '.join(METHODS)}; NAME:SETTING=VALUE,... for settings of its own. Repeatable. "
        "Default: speechprune.",
    ),
]
Rates = Annotated[
    list[float] | None,
    _pruning(
        "--rate",
        envvar="SPEECHPRUNE_RATE",
        metavar="R",
        help="Share of the budget to drop, from 0 to below 1. Repeatable. Default: 0.2.",
    ),
]
Position = Annotated[
    Literal["repacked", "original"] | None,
    answer_option(
        envvar="SPEECHPRUNE_POSITION",
        metavar="MODE",
        help="Positions of the retained tokens: repacked or original. Default: the preset's.",
    ),
]
Keep = Annotated[
    int | None,
    _pruning(metavar="K", help="Tokens to retain, whatever the rate."),
]
Budget = Annotated[
    str | None,
    _pruning(
        envvar="SPEECHPRUNE_BUDGET",
        metavar="B1",
        help="Tokens that phase 1 leaves, or all. Default: the model's own input length.",
    ),
]
Settings = Annotated[
    list[str] | None,
    _pruning(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the method, such as temperature=0.5. Repeatable.",
    ),
]
Seed = Annotated[
    int | None,
    _pruning(
        envvar="SPEECHPRUNE_SEED",
        metavar="N",
        help="For what is drawn at random: random, crop, t-SNE.",
    ),
]
Json = Annotated[
    bool,
    output_option("--json", metavar="", help="One JSON object a line."),
]
Quiet = Annotated[
    bool,
    output_option("--quiet", "-q", metavar="", help="Only the result."),
]
Verbose = Annotated[
    bool,
    output_option("--verbose", "-v", metavar="", help="More about what is done."),
]


@dataclass(frozen=True)
class PruningOptions:
    """How to prune, as asked for on the command line; None leaves a choice to the preset."""

    method: str
    rate: float | None
    keep: int | None
    budget: int | Literal["all"] | None
    settings: dict[str, Any]
    """All settings of the method, those left at their defaults too."""

    @classmethod
    def parse(
        cls,
        preset: Preset,
        *,
        method: str | None,
        rate: float | None,
        keep: int | None,
        budget: str | None,
        settings: list[str] | None,
        seed: int | None,
    ) -> PruningOptions:
        """Check all that can be checked without importing anything heavy. Raises UsageError.

        `seed` goes to a method that draws at random; the others have no use for it.
        """
        if rate is not None and not 0 <= rate < 1:
            raise UsageError(f"--rate {rate:g} is outside [0, 1): 0.2 drops a fifth of the budget")
        if keep is not None and keep < 1:
            raise UsageError(f"--keep {keep}: at least one token has to stay")
        method = method or preset.defaults.method
        given = parse_settings(settings or [])
        if seed is not None and "seed" in {field.name for field in fields(pruner_class(method))}:
            given.setdefault("seed", seed)
        query = {key: given.pop(key) for key in ("query",) if key in given}
        effective = asdict(get_pruner(method, **given)) | query
        return cls(method, None if keep else rate, keep, parse_budget(budget), effective)


def parse_budget(text: str | None) -> int | Literal["all"] | None:
    """`all`, a positive number of tokens, or None for the model's own input length."""
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--budget {text}: give a positive number of tokens, or all")
    return int(text)
