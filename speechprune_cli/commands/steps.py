"""The steps that `ask` and `prune` have in common, cheap checks before heavy imports."""

from __future__ import annotations

import hashlib
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

    def select(self, question: str, choices: tuple[str, ...] = ()) -> Selection:
        """Prune as asked for on the command line, passing warnings on."""
        pruning, model = self.pruning, self.session.model.preset.name
        selection = self.session.select(
            self.tokens,
            question,
            self.spec,
            budget=pruning.b1,
            choices=choices,
            query=pruning.query,
        )
        if lost := self.session.unread(question, choices):
            self.out.warning(f"{model} has no tokens for {lost!r}, and reads the rest alone")
        self.out.detail(selection.reason)
        if selection.warning:
            self.out.warning(selection.warning)
        return selection

    def describe(self, selection: Selection) -> dict[str, Any]:
        """The JSON fields of a selection."""
        from speechprune_cli.report.facts import describe_selection

        settings = {
            **asdict(self.spec.pruner),
            "query": self.pruning.query or self.spec.pruner.query,
        }
        return describe_selection(self.session, self.audio, self.tokens, selection, settings)

    def show_passages(self, fields: dict[str, Any]) -> None:
        """The text that was read, with its times."""
        from speechprune_cli.report.passages import Passage, passages_text

        found = [Passage(**each) for each in fields["passages"]]
        if self.tokens.ids is None:
            self.out.warning("--show: this model hears by itself, there is no text to show")
        elif self.out.rich:
            self.out.show(passages_text(found))
        else:
            self.out.text(f"{passages_text(found)}\n")

    def show(self, selection: Selection, fields: dict[str, Any]) -> None:
        """What was retained, and the facts in its JSON fields, for people."""
        from speechprune_cli.report.facts import facts, facts_text
        from speechprune_cli.report.timeline import Timeline, draw

        width, timeline = self.out.stdout.width, Timeline.of(self.tokens, selection)
        self.out.show("", draw(timeline, self.tokens.seconds, width))
        self.out.show(facts_text(facts(fields), width), "")


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
    spec, _ = pruning.spec(defaults_of(model.preset)), pruning.b1
    spec.check(model.preset)
    for name in ("keep", "rate"):
        told = getattr(pruning, name) is not None and not by_environment(name)
        if told and spec.amount is None:
            out.warning(f"{spec.name} settles by itself how much it keeps: --{name} has no effect")
    if source == "-" and (is_closed() or sys.stdin.isatty()):
        raise UsageError("- reads the recording from standard input: pipe a file into it")
    from speechprune_cli.audio import load_audio

    audio = load_audio(source, recording.track)
    for warning in audio.warnings:
        out.warning(warning)
    session = model.load(out, server)
    session.check_method(spec)
    advise(out, session.model.preset, audio)
    with out.progress(f"encoding {audio.source}") as on_progress:
        tokens = session.encode(audio, on_progress, said)
    for doubt in session.doubts(tokens):
        out.warning(doubt)
    if tokens.transcript is not None:
        tell_language(out, tokens.transcript)
        if transcribing.transcript is not None:
            write_down(out, tokens.transcript, transcribing.transcript)
    origin = "from the cache" if tokens.from_cache else "encoded"
    out.note(
        f"{audio.source}: {audio.source_seconds:.1f} s at {audio.source_rate / 1000:g} kHz, "
        f"{tokens.seconds:.1f} s {origin}"
    )
    if not len(tokens):
        out.warning(f"{audio.source}: no words were recognised in it")
    elif pruning.keep is not None and spec.amount and (spec.amount.tokens or 0) > len(tokens):
        asked = f"--keep {spec.amount.tokens} is more than"
        out.warning(f"{asked} the {len(tokens)} tokens of {audio.source}: all are kept")
    return Listening(out, session, audio, tokens, spec, pruning)


def advise(out: Output, preset: Preset, audio: Audio) -> None:
    """What people should know before they trust an answer."""
    if preset.name == "nano" and not packaged(audio):
        out.warning(
            "nano misreads most recordings but its own: `speechprune models get mini` fetches a "
            "model that reads yours"
        )
    elif preset.caution:
        out.note(preset.caution)


def packaged(audio: Audio) -> bool:
    """Whether a recording is one of those inside this package."""
    from speechprune_cli.config import PACKAGE

    for path in (PACKAGE / "examples").glob("*.ogg"):
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == audio.sha256:
                return True
    return False


def tell_language(out: Output, transcript: Transcript) -> None:
    """The language that was found or told, and how sure that is."""
    if transcript.language is not None:
        sure = "" if transcript.sure is None else f", {transcript.sure:.0%} sure"
        out.note(f"language: {transcript.language}{sure}")


def write_down(out: Output, transcript: Transcript, path: Path) -> None:
    """What was said, into a file."""
    from speechprune_cli.transcripts.files import write_transcript

    write_transcript(path, transcript)
    out.note(f"wrote {path}")
