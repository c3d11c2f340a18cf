"""SpeechPrune for speech language models: drop most audio tokens, keep those a question needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from speechprune_cli.version import __version__

if TYPE_CHECKING:
    from speechprune_cli.audio import load_audio
    from speechprune_cli.bench.run import Evaluation, evaluate, resume
    from speechprune_cli.builder.build import build
    from speechprune_cli.pipeline import Result, Session, load

__all__ = [
    "Evaluation",
    "Result",
    "Session",
    "__version__",
    "build",
    "evaluate",
    "load",
    "load_audio",
    "resume",
]

_HOMES = {
    **dict.fromkeys(("Result", "Session", "load"), "pipeline"),
    "load_audio": "audio",
    **dict.fromkeys(("Evaluation", "evaluate", "resume"), "bench.run"),
    "build": "builder.build",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use (PEP 562): importing the package stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
