"""The steps that `ask` and `prune` have in common, cheap checks before heavy imports."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from speechprune_cli.errors import UsageError
from speechprune_cli.methods import MethodSpec, defaults_of
from speechprune_cli.options import (
    ModelOptions,
    PruningOptions,
    RecordingOptions,
    TranscriptOptions,
)
from speechprune_cli.options.grouping import by_environment
from speechprune_cli.output import Output
from speechprune_cli.report import remarks
from speechprune_cli.streams import is_closed

if TYPE_CHECKING:
    from pathlib import Path

    from speechprune_cli.config import Preset
    from speechprune_cli.flow import Audio, AudioTokens, Selection, Transcript
    from speechprune_cli.pipeline import Session


@dataclass(frozen=True)
class Listening:
    """A loaded model, an encoded recording, and how it is pruned."""

    out: Output
    session: Session
    audio: Audio
    tokens: AudioTokens
    spec: MethodSpec
    pruning: PruningOptions

    def select(self, question: str, choices: tuple[str, ...] = (), about: str = "") -> Selection:
        """Prune as asked for on the command line, passing warnings on, `about` before them."""
        pruning = self.pruning
        selection = self.session.select(
            self.tokens,
            question,
            self.spec,
            budget=pruning.b1,
            choices=choices,
            query=pruning.query,
        )
        self.out.remarks(remarks.on_question(self.session, question, choices), about)
        self.out.remarks(remarks.on_selection(selection), about)
        return selection

    def describe(self, selection: Selection) -> dict[str, Any]:
        """The JSON fields of a selection."""
        from speechprune_cli.report.facts import describe_selection

        settings = {
            **asdict(self.spec.pruner),
            "query": self.pruning.query or self.spec.pruner.query,
        }
        return describe_selection(self.session, self.audio, self.tokens, selection, settings)


def show_passages(out: Output, preset: Preset, fields: dict[str, Any]) -> None:
    """The text that was read, with its times, from the JSON fields."""
    from speechprune_cli.config import TRANSCRIPT
    from speechprune_cli.report.passages import Passage, passages_text

    found = [Passage(**each) for each in fields["passages"]]
    if preset.family != TRANSCRIPT:
        out.warning("--show: this model hears by itself, there is no text to show")
    elif out.rich:
        out.show(passages_text(found))
    else:
        out.text(f"{passages_text(found)}\n")


def show(out: Output, fields: dict[str, Any]) -> None:
    """What was retained, and the facts in the JSON fields, for people."""
    from speechprune_cli.report.facts import facts, facts_text
    from speechprune_cli.report.timeline import Timeline, draw

    width, seconds = out.stdout.width, fields["audio"]["encoded_seconds"]
    out.show("", draw(Timeline.read(fields), seconds, width))
    out.show(facts_text(facts(fields), width), "")


def settled(out: Output, model: ModelOptions, pruning: PruningOptions) -> MethodSpec:
    """How is pruned, with a warning of options without effect. Raises UsageError, ModelError."""
    spec, _ = pruning.spec(defaults_of(model.preset)), pruning.b1
    spec.check(model.preset)
    for name in ("keep", "rate"):
        told = getattr(pruning, name) is not None and not by_environment(name)
        if told and spec.amount is None:
            out.warning(f"{spec.name} settles by itself how much it keeps: --{name} has no effect")
    return spec


def check_source(source: str) -> None:
    """Raise UsageError where nothing is piped into a command that reads from there."""
    if source == "-" and (is_closed() or sys.stdin.isatty()):
        raise UsageError("- reads the recording from standard input: pipe a file into it")


def listen(
    out: Output,
    source: str,
    model: ModelOptions,
    pruning: PruningOptions,
    transcribing: TranscriptOptions,
    recording: RecordingOptions,
    server: str | None = None,
) -> Listening:
    """Decode, load and encode; what can be refused at once is."""
    transcribing.check(model.preset)
    said = transcribing.brought
    spec = settled(out, model, pruning)
    check_source(source)
    from speechprune_cli.audio import load_audio

    audio = load_audio(source, recording.track)
    for warning in audio.warnings:
        out.warning(warning)
    session = model.load(out, server)
    session.check_method(spec)
    out.remarks(remarks.on_model(session.model.preset, audio))
    with out.progress(f"encoding {audio.source}") as on_progress:
        tokens = session.encode(audio, on_progress, said)
    out.remarks(remarks.on_recording(session, audio, tokens, spec.amount if pruning.keep else None))
    if tokens.transcript is not None and transcribing.transcript is not None:
        write_down(out, tokens.transcript, transcribing.transcript)
    return Listening(out, session, audio, tokens, spec, pruning)


def write_down(out: Output, transcript: Transcript, path: Path) -> None:
    """What was said, into a file."""
    from speechprune_cli.transcripts.files import write_transcript

    write_transcript(path, transcript)
    out.note(f"wrote {path}")
