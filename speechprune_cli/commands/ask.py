"""`speechprune ask`: answer questions about a recording."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from speechprune_cli.commands.steps import Listening, listen
from speechprune_cli.errors import UsageError
from speechprune_cli.options import (
    AnswerOptions,
    AudioArgument,
    ModelOptions,
    OutputOptions,
    PruningOptions,
    grouped,
)
from speechprune_cli.output import Output

if TYPE_CHECKING:
    from speechprune_cli.flow import Answer, Prompt, Selection

Questions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUESTION",
        help="One or more; the recording is encoded once. Without any, a terminal asks for them.",
        show_default=False,
    ),
]


@grouped
def ask(
    audio: AudioArgument,
    questions: Questions = None,
    *,
    model: ModelOptions,
    pruning: PruningOptions,
    answering: AnswerOptions,
    output: OutputOptions,
) -> None:
    """Answer questions about a recording.

    In a pipe only the answers come out; a terminal also shows what was retained.
    """
    out, choices = output.open(), check_choices(answering.choice)
    check_questions(audio, questions)
    talk = Talk(listen(out, audio, model, pruning), choices, answering)
    several = questions is not None and len(questions) > 1
    for question in questions or typed_questions(out):
        if several:
            out.heading(question)
        talk.ask(question)


@dataclass(frozen=True)
class Talk:
    """How questions about a recording are answered."""

    listening: Listening
    choices: tuple[str, ...]
    answering: AnswerOptions

    def ask(self, question: str) -> None:
        """Prune, answer and report one question."""
        heard, choices = self.listening, self.choices
        out, session, tokens = heard.out, heard.session, heard.tokens
        selection = heard.select(question, choices)
        prompt = session.build_prompt(
            tokens, selection, question, choices=choices, position=self.answering.position
        )
        out.detail(prompt.text)
        answer = session.respond(
            prompt,
            choices=choices,
            max_new_tokens=self.answering.max_new_tokens,
            on_text=out.stream(),
        )
        if not choices:
            out.text("\n")
        elif not out.rich:
            out.text(f"{answer.text}\n")
        self.report(question, selection, prompt, answer)

    def report(self, question: str, selection: Selection, prompt: Prompt, answer: Answer) -> None:
        """What is known beside the answer: on a terminal, or as JSON."""
        from speechprune_cli.report.facts import choices_text, describe_answer, facts, facts_text
        from speechprune_cli.report.timeline import Timeline, draw

        out, tokens = self.listening.out, self.listening.tokens
        described = describe_answer(prompt, answer, self.listening.describe(selection))
        fields = {"question": question, "choices": list(self.choices), **described}
        out.record(fields)
        if out.rich:
            width = out.stdout.width
            if answer.probabilities:
                out.show(choices_text(answer.probabilities, width))
            out.show("", draw(Timeline.of(tokens, selection), tokens.seconds, width))
            out.show(facts_text(facts(fields), width), "")


def check_choices(choices: list[str] | None) -> tuple[str, ...]:
    """The options of a multiple-choice question: none, or at least two that differ."""
    found = tuple(choices or ())
    if any(not text.strip() for text in found):
        raise UsageError("--choice is empty")
    if len(found) == 1 or len(set(found)) < len(found):
        raise UsageError("--choice: give at least two options that differ")
    return found


def check_questions(audio: str, questions: list[str] | None) -> None:
    """Some question, none of them empty; or a terminal to ask for them."""
    if any(not question.strip() for question in questions or ()):
        raise UsageError("the question is empty")
    if not questions and (audio == "-" or not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise UsageError("no question given: speechprune ask AUDIO QUESTION")


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
