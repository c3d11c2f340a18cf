"""The steps that `ask` and `prune` have in common, cheap checks before heavy imports."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from speechprune_cli.errors import UsageError
from speechprune_cli.options import PruningOptions
from speechprune_cli.output import Output

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio, AudioTokens, Selection
    from speechprune_cli.pipeline import Session


def read_recording(source: str, out: Output) -> Audio:
    """Decode the recording, passing its warnings on."""
    if source == "-" and sys.stdin.isatty():
        raise UsageError("- reads the recording from standard input: pipe a file into it")
    from speechprune_cli.audio import load_audio

    audio = load_audio(source)
    for warning in audio.warnings:
        out.warning(warning)
    return audio


def open_session(out: Output, model: str, **arguments: Any) -> Session:
    """Load the model, saying where it runs and why."""
    from speechprune_cli.pipeline import load

    session = load(model, **arguments)
    for decision in session.model.decisions:
        out.note(decision)
    return session


def encode(out: Output, session: Session, audio: Audio) -> AudioTokens:
    """Encode the whole recording behind a progress bar."""
    with out.progress(f"encoding {audio.source}") as on_progress:
        tokens = session.encode(audio, on_progress=on_progress)
    origin = "from the cache" if tokens.from_cache else "encoded"
    out.note(
        f"{audio.source}: {audio.source_seconds:.1f} s at {audio.source_rate / 1000:g} kHz, "
        f"{tokens.seconds:.1f} s {origin}"
    )
    return tokens


def select(
    out: Output,
    session: Session,
    tokens: AudioTokens,
    question: str,
    pruning: PruningOptions,
    choices: tuple[str, ...] = (),
) -> Selection:
    """Prune as asked for on the command line, passing a warning on."""
    selection = session.prune(
        tokens,
        question,
        method=pruning.method,
        rate=pruning.rate,
        keep=pruning.keep,
        budget=pruning.budget,
        choices=choices,
        **pruning.settings,
    )
    out.detail(selection.reason)
    if selection.warning:
        out.warning(selection.warning)
    return selection
