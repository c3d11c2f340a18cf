"""The options that commands share, in groups: one wording, one environment variable, one check."""

from speechprune_cli.options.grouping import argument, grouped, showing
from speechprune_cli.options.model import (
    AnswerOptions,
    AudioArgument,
    ModelOptions,
    PlaceOptions,
    RecordingOptions,
    ServerOptions,
    TranscriptOptions,
)
from speechprune_cli.options.output import OutputOptions
from speechprune_cli.options.pruning import GridOptions, MatchingOptions, PruningOptions
from speechprune_cli.options.serving import ServingOptions

ENVIRONMENT = (
    "Options of the model, the pruning and the answer that are not given are read from the "
    "environment: --model from SPEECHPRUNE_MODEL, and so on."
)

__all__ = [
    "ENVIRONMENT",
    "AnswerOptions",
    "AudioArgument",
    "GridOptions",
    "MatchingOptions",
    "ModelOptions",
    "OutputOptions",
    "PlaceOptions",
    "PruningOptions",
    "RecordingOptions",
    "ServerOptions",
    "ServingOptions",
    "TranscriptOptions",
    "argument",
    "grouped",
    "showing",
]
