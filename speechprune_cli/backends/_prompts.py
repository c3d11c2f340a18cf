"""What prompts of all families have in common: options, positions, the place of the recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any
from unicodedata import category, normalize

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import PromptIds
from speechprune_cli.question import check_question, checked_choices

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.flow import AudioTokens, Selection


def with_options(question: str, choices: Sequence[str]) -> str:
    """The question, and its options a line each: `A. on Friday`."""
    options = zip(ascii_uppercase, choices, strict=False)
    return "\n".join([question, *(f"{letter}. {choice}" for letter, choice in options)])


def positions(mode: str, ids: PromptIds, tokens: AudioTokens, selection: Selection) -> Tensor:
    """Of all tokens of a prompt, `[n]`. Raises UsageError for a `mode` that is none."""
    import torch

    before, after = len(ids.before), len(ids.after)
    if mode == "repacked":
        return torch.arange(before + len(selection.kept) + after)
    if mode != "original":
        raise UsageError(f"unknown position '{mode}': repacked or original")
    text_after = before + len(tokens) + torch.arange(after)
    return torch.cat([torch.arange(before), before + selection.kept.cpu(), text_after])


def around(audio: int, ids: Sequence[int], text: str, tokenizer: Any) -> PromptIds:
    """The tokens before and behind the one, `audio`, that stands for the recording.

    Raises UsageError where a question holds it too.
    """
    if ids.count(audio) != 1:
        placeholder = tokenizer.convert_ids_to_tokens(audio)
        raise UsageError(f"the question must not contain {placeholder}")
    at = ids.index(audio)
    return PromptIds(ids[:at], ids[at + 1 :], text)


def checked(lm: SpeechLM, question: str, choices: Iterable[str]) -> tuple[str, ...]:
    """The options. Raises UsageError for a question or options that a model cannot be asked."""
    check_question(question)
    found = checked_choices(choices)
    lm.check_text(question, *found)
    if found:
        option_ids(lm, found)
    return found


def option_ids(lm: SpeechLM, choices: Sequence[str]) -> list[list[int]]:
    """Tokens of each. Raises UsageError for what the tokenizer drops or takes for the same."""
    if len(checked_choices(choices)) < 2:
        raise UsageError("choices: give at least two options that differ")
    options: dict[tuple[int, ...], str] = {}
    for choice in choices:
        ids = tuple(lm.text_ids(choice))
        if not ids:
            raise UsageError(f"choices: {lm.preset.name} has no tokens for {choice!r}")
        if ids in options:
            pair = f"{options[ids]!r} from {choice!r}"
            raise UsageError(f"choices: {lm.preset.name} cannot tell {pair}: the same tokens")
        options[ids] = choice
    return [list(ids) for ids in options]


def unread(lm: SpeechLM, *texts: str) -> str:
    """Letters, digits and symbols of the texts for which a model has no tokens, each once.

    Told by what its tokens say when they are written out again, whatever the case.
    """
    lost: dict[str, None] = {}
    for text in texts:
        read = _plain(lm.text_of(lm.text_ids(text)))
        lost |= dict.fromkeys(each for each in text if _counts(each) and _plain(each) not in read)
    return "".join(lost)


def _counts(letter: str) -> bool:
    """Whether a text says something else without it."""
    return letter.isalnum() or letter == "%" or category(letter) in ("Sc", "Sm", "So")


def _plain(text: str) -> str:
    return normalize("NFKC", text.casefold())
