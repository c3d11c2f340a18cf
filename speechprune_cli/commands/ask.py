"""`speechprune ask`: answer questions about a recording."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from speechprune_cli import options
from speechprune_cli.commands.steps import Listening, listen
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.output import Output
from speechprune_cli.question import check_question, checked_choices

Questions = Annotated[
    list[str] | None,
    options.argument(
        "QUESTION",
        "One or more; the recording is encoded once. Without any, a terminal asks for them.",
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
    check_questions(audio, questions)
    heard = listen(out, audio, model, pruning, transcribing, recording, serving.server)
    if not questions:
        converse(heard, choices, answering)
    for question in questions or ():
        heard.session.check(question, choices)
    for question in questions or ():
        if choices or len(questions or ()) > 1:
            out.heading(question)
        respond(heard, question, choices, answering)


def converse(heard: Listening, choices: tuple[str, ...], answering: options.AnswerOptions) -> None:
    """Answer what is typed; a question that cannot be answered does not end it."""
    for question in typed_questions(heard.out):
        try:
            respond(heard, question, choices, answering)
        except SpeechPruneError as error:
            heard.out.warning(str(error))


def respond(
    heard: Listening, question: str, choices: tuple[str, ...], answering: options.AnswerOptions
) -> None:
    """Prune, answer and report one question."""
    from speechprune_cli.report.facts import choices_text, describe_answer

    out, session = heard.out, heard.session
    selection = heard.select(question, choices)
    prompt = session.build_prompt(
        heard.tokens, selection, question, choices=choices, position=answering.position
    )
    out.detail(prompt.text)
    warn_of_context(heard, prompt.audio_tokens + prompt.text_tokens)
    with out.stream() as on_text:
        answer = session.respond(
            prompt, choices=choices, max_new_tokens=answering.max_new_tokens, on_text=on_text
        )
    if not choices:
        out.text("\n")
    elif not out.rich:
        out.text(f"{answer.text}\n")
    described = describe_answer(prompt, answer, heard.describe(selection))
    fields = {"question": question, "choices": list(choices), **described}
    out.record(fields)
    if answering.show:
        heard.show_passages(fields)
    if out.rich:
        if answer.probabilities:
            out.show(choices_text(answer.probabilities, out.stdout.width))
        heard.show(selection, fields)


def warn_of_context(heard: Listening, count: int) -> None:
    """Say that a prompt of so many tokens is longer than the model was made for."""
    model = heard.session.model
    context = model.shape.decoder.max_position_embeddings
    if count > context:
        heard.out.warning(
            f"the prompt has {count:,} tokens, {model.preset.name} was made for {context:,}: "
            "its answer cannot be trusted, keep less"
        )


def check_questions(audio: str, questions: list[str] | None) -> None:
    """Some question, none of them empty; or a terminal to ask for them."""
    for question in questions or ():
        check_question(question)
        if is_file(question):
            raise UsageError(f"{question} is a file, no question: give one recording at a time")
    if not questions and (audio == "-" or not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise UsageError("no question given: speechprune ask AUDIO QUESTION")


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
