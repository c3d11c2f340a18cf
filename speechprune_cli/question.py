"""What is asked of a recording, checked before anything is loaded for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from speechprune_cli.errors import UsageError

LETTER_ONLY = "Answer with the letter of the right option alone."


def by_letter(question: str) -> str:
    """The question, to be answered by the letter of an option; asked for once."""
    return question if question.endswith(LETTER_ONLY) else f"{question}\n{LETTER_ONLY}"


def check_question(question: Any) -> None:
    """Raise UsageError for what is no question: no text, or a text without a word."""
    check_text(question, "the question")
    if not question.strip():
        raise UsageError("the question is empty")
    if not any(map(str.isalnum, question)):
        raise UsageError(f"the question {question!r} holds no word")


def checked_choices(choices: Any, what: str = "choices") -> tuple[str, ...]:
    """The options of a multiple-choice question: none, or at least two that differ.

    Raises UsageError, which calls them `what`, for others and for what is no list of texts.
    """
    if isinstance(choices, str | bytes):
        raise UsageError(f"{what}: one text, {choices!r}: give a list of options")
    if isinstance(choices, Set | Mapping) or not isinstance(choices, Iterable):
        raise UsageError(f"{what}: give options in an order, as a list, not {_kind(choices)}")
    found = tuple(choices)
    for choice in found:
        check_text(choice, what)
        if not choice.strip():
            raise UsageError(f"{what}: an option is empty")
    if len(found) == 1 or len({choice.strip() for choice in found}) < len(found):
        raise UsageError(f"{what}: give at least two options that differ")
    return found


def check_text(text: Any, what: str) -> None:
    """Raise UsageError for what is no text, or holds bytes of a command line that are none."""
    if not isinstance(text, str):
        raise UsageError(f"{what}: give text, not {_kind(text)}")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError(f"{what} {text!r} holds bytes that are no UTF-8")


def _kind(value: Any) -> str:
    return type(value).__name__
