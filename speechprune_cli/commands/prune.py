"""`speechprune prune`: select tokens for a question, and keep or show them, without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechprune_cli import options
from speechprune_cli.commands.steps import encode, open_session, read_recording, select
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.options import PruningOptions
from speechprune_cli.output import Output
from speechprune_cli.report import figures
from speechprune_cli.report.facts import describe_selection, facts, facts_text
from speechprune_cli.report.files import check_destination, excerpt, save_selection, spans
from speechprune_cli.report.timeline import Timeline, draw

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio, AudioTokens, Selection
    from speechprune_cli.pipeline import Session

Question = Annotated[
    str,
    typer.Argument(metavar="QUESTION", help="What has to be answerable.", show_default=False),
]
Kept = Annotated[
    Path | None,
    options.output_option(
        "--output",
        "-o",
        metavar="FILE",
        help="Retained embeddings, their indices, times and scores: .safetensors",
    ),
]
Plot = Annotated[
    Path | None,
    options.output_option(
        metavar="FILE", help="What is retained of every second, as .png, .svg or .pdf"
    ),
]
Tsne = Annotated[
    Path | None,
    options.output_option(
        metavar="FILE", help="Pruned, kept and question tokens in a plane, as .png, .svg or .pdf"
    ),
]
Listen = Annotated[
    Path | None,
    options.output_option(
        "--audio", metavar="FILE", help="What is retained, to listen to: .flac, .wav, .ogg, ..."
    ),
]


def prune(
    audio: options.Recording,
    question: Question,
    *,
    model: options.Model = "nano",
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.DType = "auto",
    quantize: options.Quantize = "none",
    offline: options.Offline = False,
    no_cache: options.NoCache = False,
    method: options.Method = None,
    rate: options.Rate = None,
    keep: options.Keep = None,
    budget: options.Budget = None,
    setting: options.Settings = None,
    seed: options.Seed = None,
    output: Kept = None,
    plot: Plot = None,
    tsne: Tsne = None,
    listen: Listen = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Select the tokens that a question needs, without answering it.

    In a pipe the retained spans come out, one a line: start and end in seconds.
    """
    from speechprune_cli.config import resolve_model

    out = Output(json=json, quiet=quiet, verbose=verbose)
    pruning = PruningOptions.parse(
        resolve_model(model),
        method=method,
        rate=rate,
        keep=keep,
        budget=budget,
        settings=setting,
        seed=seed,
    )
    if not question.strip():
        raise UsageError("the question is empty")
    files = Files(output, plot, tsne, listen, seed or 0)
    files.spare(audio)
    recording = read_recording(audio, out)
    session = open_session(
        out,
        model,
        revision=revision,
        device=device,
        dtype=dtype,
        quantize=quantize,
        offline=offline,
        cache=not no_cache,
    )
    tokens = encode(out, session, recording)
    selection = select(out, session, tokens, question, pruning)
    described = describe_selection(session, recording, tokens, selection, pruning.settings)
    fields = {"question": question, **described}
    files.write(session, recording, tokens, selection, fields)
    report(out, tokens, selection, fields, files.names)


@dataclass(frozen=True)
class Files:
    """The files asked for, checked at once and written at the end. Raises UsageError."""

    output: Path | None
    plot: Path | None
    tsne: Path | None
    audio: Path | None
    seed: int

    def __post_init__(self) -> None:
        from speechprune_cli.audio import WRITABLE

        check_destination(self.audio, "--audio", tuple(WRITABLE))
        check_destination(self.output, "--output", (".safetensors",))
        check_destination(self.plot, "--plot", figures.FORMATS)
        check_destination(self.tsne, "--tsne", figures.FORMATS)
        if self.plot:
            figures.check_drawable("--plot", "matplotlib")
        if self.tsne:
            figures.check_drawable("--tsne", "matplotlib", "sklearn")
        if len(set(self.names)) < len(self.names):
            raise UsageError("two options write to the same file")

    def spare(self, recording: str) -> None:
        """UsageError where a file asked for is the recording itself."""
        for path in map(Path, self.names):
            if path.exists() and Path(recording).exists() and path.samefile(recording):
                raise UsageError(f"{path} is the recording itself: write to another file")

    @property
    def names(self) -> list[str]:
        """Of all files asked for."""
        paths = (self.output, self.plot, self.tsne, self.audio)
        return [str(path) for path in paths if path is not None]

    def write(
        self,
        session: Session,
        audio: Audio,
        tokens: AudioTokens,
        selection: Selection,
        fields: dict[str, Any],
    ) -> None:
        """Write each file whole or not at all."""
        question = fields["question"]
        if self.output:
            save_selection(self.output, tokens, selection, fields)
        if self.plot:
            figures.save_timeline(self.plot, tokens, selection, question)
        if self.tsne:
            text = session.model.embed_text(question)
            figures.save_tsne(self.tsne, tokens, selection, text, question=question, seed=self.seed)
        if self.audio:
            from speechprune_cli.audio import write_audio

            write_audio(self.audio, excerpt(audio, spans(tokens, selection)), SAMPLE_RATE)


def report(
    out: Output,
    tokens: AudioTokens,
    selection: Selection,
    fields: dict[str, Any],
    files: list[str],
) -> None:
    """The selection on a terminal, as spans in a pipe, or as JSON."""
    out.record({**fields, "kept": selection.kept.tolist(), "files": files})
    if out.rich:
        width = out.stdout.width
        out.show("", draw(Timeline.of(tokens, selection), tokens.seconds, width))
        out.show(facts_text(facts(fields), width), "")
    else:
        out.text("".join(f"{start:.2f}\t{end:.2f}\n" for start, end in spans(tokens, selection)))
    for name in files:
        out.note(f"wrote {name}")
