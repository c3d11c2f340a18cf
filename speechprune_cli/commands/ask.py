"""`speechprune ask`: answer questions about a recording."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from speechprune_cli import options
from speechprune_cli.commands.steps import encode, open_session, read_recording, select
from speechprune_cli.errors import UsageError
from speechprune_cli.options import PruningOptions
from speechprune_cli.output import Output
from speechprune_cli.report.facts import (
    choices_text,
    describe_answer,
    describe_selection,
    facts,
    facts_text,
)
from speechprune_cli.report.timeline import Timeline, draw

if TYPE_CHECKING:
    from speechprune_cli.flow import Answer, Audio, AudioTokens, Prompt, Selection
    from speechprune_cli.pipeline import Session

Questions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUESTION",
        help="One or more; the recording is encoded once. Without any, a terminal asks for them.",
        show_default=False,
    ),
]
Choices = Annotated[
    list[str] | None,
    options.answer_option(
        "--choice", metavar="TEXT", help="An option to choose from, by likelihood. Repeatable."
    ),
]
MaxNewTokens = Annotated[
    int,
    options.answer_option(
        envvar="SPEECHPRUNE_MAX_NEW_TOKENS", metavar="N", min=1, help="Longest answer."
    ),
]


def ask(
    audio: options.Recording,
    questions: Questions = None,
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
    choice: Choices = None,
    position: options.Position = None,
    max_new_tokens: MaxNewTokens = 64,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Answer questions about a recording.

    In a pipe only the answers come out; a terminal also shows what was retained.
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
    choices = check_choices(choice)
    check_questions(audio, questions)
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
    if caution := session.model.preset.caution:
        out.note(caution)
    tokens = encode(out, session, recording)
    talk = Talk(out, session, recording, tokens, pruning, choices, position, max_new_tokens)
    several = questions is not None and len(questions) > 1
    for question in questions or typed_questions(out):
        if several:
            out.heading(question)
        talk.ask(question)


@dataclass(frozen=True)
class Talk:
    """A loaded model and an encoded recording, and how questions about it are answered."""

    out: Output
    session: Session
    audio: Audio
    tokens: AudioTokens
    pruning: PruningOptions
    choices: tuple[str, ...]
    position: str | None
    max_new_tokens: int

    def ask(self, question: str) -> None:
        """Prune, answer and report one question."""
        out, session, tokens, choices = self.out, self.session, self.tokens, self.choices
        selection = select(out, session, tokens, question, self.pruning, choices)
        prompt = session.build_prompt(
            tokens, selection, question, choices=choices, position=self.position
        )
        out.detail(prompt.text)
        answer = session.respond(
            prompt, choices=choices, max_new_tokens=self.max_new_tokens, on_text=out.stream()
        )
        if not choices:
            out.text("\n")
        elif not out.rich:
            out.text(f"{answer.text}\n")
        self.report(question, selection, prompt, answer)

    def report(self, question: str, selection: Selection, prompt: Prompt, answer: Answer) -> None:
        """What is known beside the answer: on a terminal, or as JSON."""
        out = self.out
        described = describe_selection(
            self.session, self.audio, self.tokens, selection, self.pruning.settings
        )
        fields = {
            "question": question,
            "choices": list(self.choices),
            **describe_answer(prompt, answer, described),
        }
        out.record(fields)
        if out.rich:
            width = out.stdout.width
            if answer.probabilities:
                out.show(choices_text(answer.probabilities, width))
            out.show("", draw(Timeline.of(self.tokens, selection), self.tokens.seconds, width))
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
