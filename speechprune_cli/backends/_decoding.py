"""Prompts read side by side, and what the language model says after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from speechprune_cli.flow import Prompt

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM


@dataclass
class Reading:
    """What the language model has read of some prompts, one row for each."""

    lm: SpeechLM
    cache: DynamicCache
    next_position: Tensor
    """int64 `[rows, 1]`"""
    mask: Tensor | None = None
    """bool `[rows, seen]`: False for padding; None where nothing is padded."""

    def read(self, embeds: Tensor, positions: Tensor) -> Tensor:
        """Hidden states `[rows, n, D]` of what comes next in each row.

        Without a mask attention runs causally and builds no n x n matrix. Passing the cache keeps
        gaps in `positions` from being taken for the borders of packed sequences.
        """
        self.next_position = position_after(positions)
        return self.lm.language_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state

    def read_on(self, ids: Tensor) -> Tensor:
        """Hidden states `[rows, n, D]` of the tokens `ids` `[rows, n]`, the next in each row."""
        count = ids.shape[1]
        if self.mask is not None:
            self.mask = F.pad(self.mask, (0, count), value=True)
        positions = self.next_position + torch.arange(count, device=ids.device)
        return self.read(self.lm.model.get_input_embeddings()(ids), positions)

    def take(self, rows: list[int]) -> None:
        """Go on with a copy of each of `rows`, in that order."""
        index = torch.tensor(rows, device=self.next_position.device)
        self.cache.batch_select_indices(index)
        self.next_position = self.next_position[index]
        self.mask = None if self.mask is None else self.mask[index]


def read_prompts(lm: SpeechLM, prompts: Sequence[Prompt]) -> tuple[Reading, Tensor]:
    """Read `prompts` side by side, and the logits `[rows, V]` of the token that follows each.

    Shorter prompts are padded on the left; the output head sees the last position only.
    """
    embeds = _pad([prompt.inputs_embeds[0] for prompt in prompts], "left")
    positions = _pad([prompt.position_ids[0] for prompt in prompts], "left")
    mask = _pad([torch.ones_like(prompt.position_ids[0]).bool() for prompt in prompts], "left")
    cache = DynamicCache(config=lm.text_config)
    reading = Reading(lm, cache, positions[:, :1], None if mask.all() else mask)
    return reading, lm.model.lm_head(reading.read(embeds, positions)[:, -1])


def write_answers(reading: Reading, logits: Tensor, writers: Sequence[Writer]) -> None:
    """Hand each row's most likely token to its writer until all are done.

    `logits` `[rows, V]` are those of the first token.
    """
    while True:
        tokens = logits.argmax(-1)
        for writer, token in zip(writers, tokens.tolist(), strict=True):
            writer.write(token)
        if all(writer.done for writer in writers):
            return
        logits = reading.lm.model.lm_head(reading.read_on(tokens[:, None])[:, -1])


def score_batch(
    reading: Reading, logits: Tensor, options: Sequence[Sequence[list[int]]]
) -> list[Tensor]:
    """Mean log-likelihood per token of each row's options as the start of its answer.

    `logits` `[rows, V]` are those of the first token. Rows may differ in the number and length of
    their options; `reading` is used up. Options are padded on the right, where the causal mask
    keeps the padding from being seen.
    """
    rows = [row for row, of_row in enumerate(options) for _ in of_row]
    flat = [torch.tensor(ids, device=logits.device) for of_row in options for ids in of_row]
    ids, valid = _pad(flat, "right"), _pad([torch.ones_like(ids) for ids in flat], "right")
    following = logits[rows].unsqueeze(1)
    if ids.shape[1] > 1:
        reading.take(rows)
        hidden = reading.read_on(ids[:, :-1])
        following = torch.cat([following, reading.lm.model.lm_head(hidden)], dim=1)
    log_likelihood = following.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    scores = (log_likelihood * valid).sum(1) / valid.sum(1)
    return list(scores.split([len(of_row) for of_row in options]))


class Writer:
    """One answer as it grows: token ids, and the text of them that can no longer change.

    The end token counts neither into the ids nor into `max_new_tokens`.
    """

    def __init__(
        self, lm: SpeechLM, max_new_tokens: int, on_text: Callable[[str], None] | None = None
    ) -> None:
        self.tokenizer: Any = lm.tokenizer
        self.end_tokens = lm.end_tokens
        self.max_new_tokens = max_new_tokens
        self.on_text = on_text
        self.ids: list[int] = []
        self.sent = ""
        self.finished = False
        self.done = False

    def write(self, token: int) -> None:
        """Append `token`, unless the answer is over before it or with it."""
        if self.done:
            return
        self.finished = token in self.end_tokens
        self.done = self.finished or len(self.ids) == self.max_new_tokens
        if not self.done:
            self.ids.append(token)
            self._stream()

    def close(self) -> str:
        """Send what is left and return the whole text."""
        text = self._decode()
        self._send(text)
        return text.strip()

    def _stream(self) -> None:
        """Send what is new, unless it ends within a character of several bytes."""
        if self.on_text is not None and not (text := self._decode()).endswith("\ufffd"):
            self._send(text)

    def _send(self, text: str) -> None:
        new, self.sent = text[len(self.sent) :], text
        if new and self.on_text is not None:
            self.on_text(new)

    def _decode(self) -> str:
        return self.tokenizer.decode(
            self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def position_after(positions: Tensor) -> Tensor:
    """Where the token after `positions` `[rows, n]` goes: `[rows, 1]`."""
    return positions[:, -1:] + 1


def _pad(rows: Sequence[Tensor], side: str) -> Tensor:
    """Rows of any length, zeros on one `side` of the shorter; a lone row is not copied."""
    if len(rows) == 1:
        return rows[0].unsqueeze(0)
    return pad_sequence(list(rows), batch_first=True, padding_side=side)
