"""`speechprune prune`: select tokens for a question, and keep or show them, without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from speechprune_cli import options
from speechprune_cli.commands.steps import Listening, listen, show
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.question import check_question
from speechprune_cli.report import figures
from speechprune_cli.report.files import check_destination, excerpt, save_selection, spans

if TYPE_CHECKING:
    from speechprune_cli.flow import Selection

Question = Annotated[str, options.argument("QUESTION", "What has to be answerable.")]


@dataclass(frozen=True)
class Files:
    """The files asked for, checked at once and written at the end."""

    output: Path | None = options.showing(
        "Retained embeddings, their indices, times and scores: .safetensors",
        "FILE",
        "--output",
        "-o",
    )
    audio_out: Path | None = options.showing(
        "What is retained, to listen to: .flac, .wav, .ogg, ...", "FILE", "--audio"
    )
    plot: Path | None = options.showing(
        "The sound, what is retained of it, and its words, as .png, .svg or .pdf", "FILE"
    )
    tsne: Path | None = options.showing(
        "Pruned, kept and question tokens in a plane, as .png, .svg or .pdf", "FILE"
    )

    @property
    def names(self) -> list[str]:
        """Of all files asked for."""
        paths = (self.output, self.plot, self.tsne, self.audio_out)
        return [str(path) for path in paths if path is not None]

    def check(self, recording: str) -> None:
        """UsageError where one cannot be written, or is the recording itself."""
        from speechprune_cli.audio import WRITABLE

        check_destination(self.audio_out, "--audio", tuple(WRITABLE))
        check_destination(self.output, "--output", (".safetensors",))
        check_destination(self.plot, "--plot", figures.FORMATS)
        check_destination(self.tsne, "--tsne", figures.FORMATS)
        if self.plot:
            figures.check_drawable("--plot", "matplotlib", "librosa")
        if self.tsne:
            figures.check_drawable("--tsne", "matplotlib", "sklearn")
        if len(set(self.names)) < len(self.names):
            raise UsageError("two options write to the same file")
        for path in map(Path, self.names):
            if path.exists() and Path(recording).exists() and path.samefile(recording):
                raise UsageError(f"{path} is the recording itself: write to another file")

    def write(self, heard: Listening, selection: Selection, fields: dict[str, Any]) -> None:
        """Write each file whole or not at all."""
        from speechprune_cli.audio import write_audio

        tokens, question = heard.tokens, fields["question"]
        if self.tsne and not len(tokens):
            raise UsageError("--tsne: there is no token to draw")
        if self.output:
            save_selection(self.output, tokens, selection, fields)
        if self.plot:
            from speechprune_cli.report.passages import passages

            read = passages(heard.session.model, tokens, selection)
            figures.save_timeline(self.plot, heard.audio, tokens, selection, question, read)
        if self.tsne:
            text, seed = heard.session.model.embed_text(question), heard.pruning.seed or 0
            figures.save_tsne(self.tsne, tokens, selection, text, question=question, seed=seed)
        if self.audio_out:
            sound = excerpt(heard.audio, spans(tokens, selection))
            write_audio(self.audio_out, sound, SAMPLE_RATE)


@options.grouped
def prune(
    audio: options.AudioArgument,
    question: Question,
    *,
    model: options.ModelOptions,
    pruning: options.PruningOptions,
    transcribing: options.TranscriptOptions,
    recording: options.RecordingOptions,
    files: Files,
    output_options: options.OutputOptions,
) -> None:
    """Select the tokens that a question needs, without answering it.

    In a pipe the retained spans come out, one a line: start and end in seconds.
    """
    out = output_options.open()
    check_question(question)
    files.check(audio)
    heard = listen(out, audio, model, pruning, transcribing, recording)
    selection = heard.select(question)
    fields = {"question": question, **heard.describe(selection)}
    files.write(heard, selection, fields)
    out.record({**fields, "kept": selection.kept.tolist(), "files": files.names})
    if out.rich:
        show(out, fields)
    else:
        found = spans(heard.tokens, selection)
        out.text("".join(f"{start:.2f}\t{end:.2f}\n" for start, end in found))
    for name in files.names:
        out.note(f"wrote {name}")
