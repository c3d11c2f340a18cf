"""What prompts of all families have in common: options, positions, the place of the recording."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import PromptIds

if TYPE_CHECKING:
    from torch import Tensor

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
