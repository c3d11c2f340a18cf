"""`speechprune ask`: answer questions about a recording."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from speechprune_cli import options
from speechprune_cli.commands.steps import (
    Listening,
    check_source,
    listen,
    settled,
    show,
    show_passages,
)
from speechprune_cli.errors import SpeechPruneError, UsageError, one_line
from speechprune_cli.output import Output
from speechprune_cli.question import check_question, checked_choices
from speechprune_cli.streams import is_closed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from speechprune_cli.config import Preset
    from speechprune_cli.report.remarks import Remark
    from speechprune_cli.serving.local import Local

LONGEST = 60  # letters of a question before a warning
Questions = Annotated[
    list[str] | None,
    options.argument(
        "QUESTION",
        "One or more; the recording is encoded once. - reads them from standard input, one a "
        "line. Without any, a terminal asks for them.",
    ),
]


@options.grouped
def ask(
    audio: options.AudioArgument,
    questions: Questions = None,
    *,
    model: options.ModelOptions,
    pruning: options.PruningOptions,
    answering: options.AnswerOptions,
    transcribing: options.TranscriptOptions,
    recording: options.RecordingOptions,
    serving: options.ServerOptions,
    output: options.OutputOptions,
) -> None:
    """Answer questions about a recording.

    In a pipe only the answers come out; a terminal also shows what was retained.

    A recording without words is answered: There are no words in this recording.
    """
    out, choices = output.open(), checked_choices(answering.choice or (), "--choice")
    questions = given_questions(audio, questions or [])
    headed = len(questions) > (0 if choices else 1)
    asked = Asked(out, model.preset, choices, answering, headed, len(questions) > 1)
    if serving.is_local:
        local = find_server(out, audio, model, pruning, transcribing, recording)
        for question in questions:
            local.check(question, choices)
        respond = partial(respond_there, asked, local)
    else:
        heard = listen(out, audio, model, pruning, transcribing, recording, serving.url)
        for question in questions:
            heard.session.check(question, choices)
        respond = partial(respond_here, asked, heard)
    if not questions:
        converse(out, respond)
    for question in questions:
        respond(question)


@dataclass(frozen=True)
class Asked:
    """How all questions are answered, and where the answers go."""

    out: Output
    preset: Preset
    choices: tuple[str, ...]
    answering: options.AnswerOptions
    headed: bool  # whether the question stands above its answer
    several: bool  # questions

    def head(self, question: str) -> None:
        """The question, where people may not know which it is."""
        if self.headed:
            self.out.heading(question)

    def about(self, question: str) -> str:
        """What a warning begins with, where no heading says which question it is of."""
        short = question if len(question) <= LONGEST else f"{question[:LONGEST]}…"
        return short if self.several and not self.out.rich else ""

    def report(self, fields: dict[str, Any]) -> None:
        """An answer, after what was streamed of it, and what it went through."""
        from speechprune_cli.report.facts import choices_text

        out = self.out
        if not self.choices:
            out.text("\n")
        elif not out.rich:
            out.text(f"{fields['answer']}\n")
        out.record(fields)
        if self.answering.show:
            show_passages(out, self.preset, fields)
        if out.rich:
            if fields["probabilities"]:
                out.show(choices_text(fields["probabilities"], out.stdout.width))
            show(out, fields)


def respond_here(asked: Asked, heard: Listening, question: str) -> None:
    """Prune, answer and report one question."""
    from speechprune_cli.report.facts import describe_answer
    from speechprune_cli.report.remarks import on_prompt

    session, choices, answering = heard.session, asked.choices, asked.answering
    asked.head(question)
    about = asked.about(question)
    selection = heard.select(question, choices, about)
    prompt = session.build_prompt(
        heard.tokens, selection, question, choices=choices, position=answering.position
    )
    asked.out.remarks(on_prompt(session, prompt), about)
    with asked.out.stream() as on_text:
        answer = session.respond(
            prompt, choices=choices, max_new_tokens=answering.max_new_tokens, on_text=on_text
        )
    described = describe_answer(prompt, answer, heard.describe(selection))
    asked.report({"question": question, "choices": list(choices), **described})


def respond_there(asked: Asked, local: Local, question: str) -> None:
    """Have one question answered by the server that listens here, and report it."""
    answering, out, waiting = asked.answering, asked.out, ExitStack()

    def say(on_recording: Iterable[Remark], on_question: Iterable[Remark]) -> None:
        waiting.close()
        out.remarks(on_recording)
        asked.head(question)
        out.remarks(on_question, asked.about(question))

    with waiting, out.stream() as on_text:
        waiting.enter_context(out.progress("waiting for the server"))
        fields = local.ask(
            question,
            on_text,
            say,
            choices=list(asked.choices),
            position=answering.position,
            max_tokens=answering.max_new_tokens,
        )
    asked.report(fields)


def find_server(
    out: Output,
    audio: str,
    model: options.ModelOptions,
    pruning: options.PruningOptions,
    transcribing: options.TranscriptOptions,
    recording: options.RecordingOptions,
) -> Local:
    """The server for this model and recording. Raises UsageError, AudioError, ServerError."""
    from speechprune_cli.serving.local import Local
    from speechprune_cli.serving.sockets import socket_path

    kept_here = {
        "--transcript": transcribing.transcript,
        "--from-transcript": transcribing.from_transcript,
        "--no-cache": model.no_cache,
    }
    for name in (name for name, told in kept_here.items() if told):
        raise UsageError(f"{name} needs the model in this process: leave --server out")
    settled(out, model, pruning)
    check_source(audio)
    path, track = socket_path(model.preset, model.identity), recording.track
    return Local(path, model.name, model.preset.name, audio, track, pruning.told)


def converse(out: Output, respond: Callable[[str], None]) -> None:
    """Answer what is typed; a question that cannot be answered does not end it."""
    for question in typed_questions(out):
        try:
            respond(question)
        except SpeechPruneError as error:
            out.warning(str(error))


def given_questions(audio: str, told: list[str]) -> list[str]:
    """Questions, a `-` replaced by those of standard input; none where a terminal asks for them.

    Raises UsageError for what is no question, and where there is none and no terminal.
    """
    for question in filter(is_file, told):
        raise UsageError(f"{question} is a file, no question: give one recording at a time")
    if told.count("-") > 1:
        raise UsageError("- is given twice: standard input is read once")
    questions = [each for one in told for each in (piped_questions(audio) if one == "-" else [one])]
    for question in questions:
        check_question(question)
    if not told and (audio == "-" or not (sys.stdin.isatty() and sys.stdout.isatty())):
        piped = "" if audio == "-" else ", or - for those of standard input"
        raise UsageError(f"no question given: speechprune ask AUDIO QUESTION{piped}")
    return questions


def piped_questions(audio: str) -> list[str]:
    """Lines of standard input, UTF-8, that are not blank. Raises UsageError for another content."""
    if audio == "-":
        raise UsageError("standard input is the recording: give the questions another way")
    if is_closed() or sys.stdin.isatty():
        raise UsageError("- reads questions from standard input: pipe a file into it")
    try:
        content = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"standard input is not in UTF-8, save it so: {one_line(error)}"
        ) from error
    except OSError as error:
        raise UsageError(f"standard input cannot be read: {error.strerror or error}") from error
    lines = [(number, line.strip()) for number, line in enumerate(content.splitlines(), 1)]
    questions = [(number, line) for number, line in lines if line]
    for number, question in questions:
        try:
            check_question(question)
        except UsageError as error:
            raise UsageError(f"line {number} of standard input: {error}") from error
    if not questions:
        raise UsageError("standard input holds no question: give one a line")
    return [question for _, question in questions]


def is_file(question: str) -> bool:
    """Whether there is a file of that name."""
    with suppress(OSError, ValueError):  # as a question may be too long for a name
        return Path(question).is_file()
    return False


def typed_questions(out: Output) -> Iterator[str]:
    """Questions typed on the terminal, until an empty line or Ctrl-D."""
    with suppress(ImportError):  # Windows has none
        import readline  # noqa: F401 - gives input() a history and an editor

    out.note("Ask about the recording; an empty line ends.")
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            print()
            return
        if not question:
            return
        yield question
