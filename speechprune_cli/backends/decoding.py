"""Prompts read side by side, and what the language model says after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechprune_cli import costs
from speechprune_cli.backends._finite import check_logits
from speechprune_cli.device import PeakMemory, Stopwatch, memory_guard
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import Answer, Prompt
from speechprune_cli.question import checked_choices

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM


@dataclass
class DecoderState:
    """What the language model has read of some prompts, one row for each."""

    lm: SpeechLM
    cache: Any
    mask: Tensor | None = None  # bool [rows, seen]: False for padding; None where there is none
    next_position: Tensor = field(init=False)  # int64 [rows, 1], or [3, rows, 1]

    def read(self, embeds: Tensor, positions: Tensor) -> Tensor:
        """Hidden states `[rows, n, D]` of what comes next in each row."""
        self.next_position = positions[..., -1:] + 1
        # without a cache, gaps in `positions` would be taken for the borders of packed sequences
        return self.lm.run_decoder(embeds, positions, self.mask, self.cache)

    def read_on(self, ids: Tensor) -> Tensor:
        """Hidden states `[rows, n, D]` of the tokens `ids` `[rows, n]`, the next in each row."""
        count = ids.shape[1]
        if self.mask is not None:
            self.mask = F.pad(self.mask, (0, count), value=True)
        positions = self.next_position + torch.arange(count, device=ids.device)
        return self.read(self.lm.embed_rows(ids), positions)

    def take(self, rows: list[int]) -> None:
        """Go on with a copy of each of `rows`, in that order."""
        index = torch.tensor(rows, device=self.next_position.device)
        self.cache.batch_select_indices(index)
        self.next_position = self.next_position.index_select(-2, index)
        self.mask = None if self.mask is None else self.mask[index]


@dataclass
class Generation:
    """One answer as it grows: token ids, and the text of them that can no longer change."""

    lm: SpeechLM
    max_new_tokens: int
    on_text: Callable[[str], None] | None = None
    ids: list[int] = field(default_factory=list)
    sent: str = ""
    finished: bool = False
    done: bool = False

    def append(self, token: int) -> None:
        """Take `token` in, unless the answer is over before it or with it."""
        if self.done:
            return
        self.finished = token in self.lm.end_tokens
        self.done = self.finished or len(self.ids) == self.max_new_tokens
        if self.done:
            return
        self.ids.append(token)
        if self.on_text is not None:
            text = self.lm.text_of(self.ids)
            if not text.endswith("\ufffd"):  # which stands for a part of a character
                self._send(text)

    def close(self) -> str:
        """Send what is left and return the whole text."""
        text = self.lm.text_of(self.ids)
        self._send(text)
        return text.strip()

    def _send(self, text: str) -> None:
        new, self.sent = text[len(self.sent) :], text
        if new and self.on_text is not None:
            self.on_text(new)


@torch.no_grad()
def generate(
    lm: SpeechLM,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    on_text: Callable[[str], None] | None = None,
) -> list[Answer]:
    """Greedy answers to prompts read side by side (`SpeechLM.generate_batch`)."""
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}: it must be at least 1")
    if not prompts:
        return []
    release(lm, prompts)
    peak, clock = PeakMemory(lm.device), Stopwatch(lm.device)
    growing = [Generation(lm, max_new_tokens, on_text) for _ in prompts]
    with _guard(lm, prompts):
        state, logits = read_prompts(lm, prompts)
        prefill_seconds = clock.lap() / len(prompts)
        _grow(state, logits, growing)
    texts = [each.close() for each in growing]
    cost = prefill_seconds, clock.lap() / len(prompts), peak.bytes()
    return [
        Answer(text, None, len(each.ids), each.finished, *cost)
        for text, each in zip(texts, growing, strict=True)
    ]


@torch.no_grad()
def choose(
    lm: SpeechLM, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]
) -> list[Answer]:
    """The likeliest choice for each of the prompts read side by side (`SpeechLM.choose_batch`)."""
    if len(prompts) != len(choices):
        raise UsageError(f"{len(prompts)} prompts, but choices for {len(choices)}")
    options = [option_ids(lm, of_prompt) for of_prompt in choices]
    if not prompts:
        return []
    release(lm, prompts)
    peak, clock = PeakMemory(lm.device), Stopwatch(lm.device)
    with _guard(lm, prompts, options):
        state, logits = read_prompts(lm, prompts)
        prefill_seconds = clock.lap() / len(prompts)
        scores = score_batch(state, logits, options)
        probabilities = [of_prompt.softmax(0).tolist() for of_prompt in scores]
    cost = prefill_seconds, clock.lap() / len(prompts), peak.bytes()
    return [
        Answer(texts[int(scored.argmax())], dict(zip(texts, shares, strict=True)), 0, True, *cost)
        for texts, scored, shares in zip(choices, scores, probabilities, strict=True)
    ]


@torch.no_grad()
def read_prompts(lm: SpeechLM, prompts: Sequence[Prompt]) -> tuple[DecoderState, Tensor]:
    """Read `prompts` side by side, and the logits `[rows, V]` of the token that follows each.

    Shorter prompts are padded on the left; the output head sees the last position only. What all
    of them share (`Prompt.shared`) is read once, and not again as long as the next ones share it.
    Raises NumericError where a model computes NaN or infinity.
    """
    if shared := _shared(prompts):
        return _read_behind(lm, prompts, shared)
    embeds, positions, mask = _side_by_side(prompts, 0)
    state = DecoderState(lm, lm.new_cache(), mask)
    return state, _logits(state, state.read(embeds, positions))


def _logits(state: DecoderState, hidden: Tensor) -> Tensor:
    """`[rows, V]` of the token that follows `hidden` `[rows, n, D]`. Raises NumericError."""
    logits = state.lm.head(hidden[:, -1])
    check_logits(state.lm, state.cache, logits)
    return logits


def _side_by_side(prompts: Sequence[Prompt], start: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Embeddings, positions and mask of all but the first `start` tokens of each."""
    embeds = _pad([prompt.inputs_embeds[0, start:] for prompt in prompts], "left")
    longest = embeds.shape[1]
    padding = [start + longest - prompt.inputs_embeds.shape[1] for prompt in prompts]
    told = [prompt.position_ids[..., start:] for prompt in prompts]
    rows = [F.pad(each, (count, 0)) for each, count in zip(told, padding, strict=True)]
    positions = rows[0] if len(rows) == 1 else torch.cat(rows, dim=-2)
    if not any(padding):
        return embeds, positions, None
    place = torch.arange(longest, device=embeds.device)
    return embeds, positions, place >= torch.tensor(padding, device=embeds.device)[:, None]


@dataclass(frozen=True)
class KeptPrefix:
    """The beginning of a prompt, and what the language model has read of it."""

    embeds: Tensor  # [n, D]
    positions: Tensor  # [1, n], or [3, 1, n]
    cache: Any

    def begins(self, prompt: Prompt) -> bool:
        """Whether the prompt says that it shares all of it, and does."""
        count = len(self.embeds)
        return (
            prompt.shared == count
            and torch.equal(prompt.position_ids[..., :count], self.positions)
            and torch.equal(prompt.inputs_embeds[0, :count], self.embeds)
        )


def release(lm: SpeechLM, prompts: Sequence[Prompt]) -> None:
    """Let go of what was read of other prompts: its memory may be needed."""
    if lm.kept_prefix is not None and not lm.kept_prefix.begins(prompts[0]):
        lm.kept_prefix = None


def _shared(prompts: Sequence[Prompt]) -> int:
    """Tokens that all prompts begin with, where all of them say so; else 0."""
    first = prompts[0]
    prefix = _prefix(first, None)
    return first.shared if all(prefix.begins(prompt) for prompt in prompts[1:]) else 0


def _prefix(prompt: Prompt, cache: Any) -> KeptPrefix:
    embeds = prompt.inputs_embeds[0, : prompt.shared]
    return KeptPrefix(embeds, prompt.position_ids[..., : prompt.shared], cache)


def _read_behind(
    lm: SpeechLM, prompts: Sequence[Prompt], shared: int
) -> tuple[DecoderState, Tensor]:
    """`read_prompts` behind a prefix that is read already, or once for all."""
    kept = lm.kept_prefix
    if kept is None or not kept.begins(prompts[0]):
        kept = _prefix(prompts[0], lm.new_cache())
        DecoderState(lm, kept.cache).read(kept.embeds.unsqueeze(0), kept.positions)
        lm.kept_prefix = kept
    cache = lm.fork_cache(kept.cache)
    if len(prompts) > 1:
        cache.batch_select_indices(torch.zeros(len(prompts), dtype=torch.int64, device=lm.device))
    embeds, positions, mask = _side_by_side(prompts, shared)
    if mask is not None:
        mask = F.pad(mask, (shared, 0), value=True)
    state = DecoderState(lm, cache, mask)
    return state, _logits(state, state.read(embeds, positions))


def score_batch(
    state: DecoderState, logits: Tensor, options: Sequence[Sequence[list[int]]]
) -> list[Tensor]:
    """Mean log-likelihood per token of each row's options as the start of its answer.

    `logits` `[rows, V]` are those of the first token. Rows may differ in the number and length of
    their options; `state` is used up. Options are padded on the right, where the causal mask
    keeps the padding from being seen.
    """
    rows = [row for row, of_row in enumerate(options) for _ in of_row]
    flat = [torch.tensor(ids, device=logits.device) for of_row in options for ids in of_row]
    ids, valid = _pad(flat, "right"), _pad([torch.ones_like(ids) for ids in flat], "right")
    following = logits[rows].unsqueeze(1)
    if ids.shape[1] > 1:
        state.take(rows)
        further = state.lm.head(state.read_on(ids[:, :-1]))
        check_logits(state.lm, state.cache, further[valid[:, 1:].bool()])
        following = torch.cat([following, further], dim=1)
    log_likelihood = following.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    scores = (log_likelihood * valid).sum(1) / valid.sum(1)
    return list(scores.split([len(of_row) for of_row in options]))


def _grow(state: DecoderState, logits: Tensor, growing: Sequence[Generation]) -> None:
    """Give each row its likeliest token, first by `logits` `[rows, V]`, until all answers end."""
    while True:
        tokens = logits.argmax(-1)
        for each, token in zip(growing, tokens.tolist(), strict=True):
            each.append(token)
        if all(each.done for each in growing):
            return
        logits = _logits(state, state.read_on(tokens[:, None]))


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


def _pad(rows: Sequence[Tensor], side: str) -> Tensor:
    """Rows of any length, zeros on one `side` of the shorter; a lone row is not copied."""
    if len(rows) == 1:
        return rows[0].unsqueeze(0)
    return pad_sequence(list(rows), batch_first=True, padding_side=side)


def _guard(
    lm: SpeechLM, prompts: Sequence[Prompt], options: Sequence[list[list[int]]] = ()
) -> AbstractContextManager[None]:
    lengths = [prompt.inputs_embeds.shape[1] for prompt in prompts]
    decoder, rows, n, size = lm.shape.decoder, len(prompts), max(lengths), lm.dtype.itemsize
    kept = len(lm.kept_prefix.embeds) if lm.kept_prefix is not None else 0
    needed = rows * costs.prefill_bytes(decoder, n - kept, size)
    needed += rows * costs.kv_cache_bytes(decoder, kept, size)
    if min(lengths) < n:
        needed += rows * n**2 * (1 + size)  # the mask in bool and in the model's dtype
    if flat := [ids for of_prompt in options for ids in of_prompt]:
        logits = len(flat) * max(map(len, flat)) * decoder.vocab_size
        needed += len(flat) * costs.kv_cache_bytes(decoder, n, size)
        needed += logits * (2 * size + 8)  # twice as computed, twice in float32
    task, hint = f"reading {n:,} tokens", "a higher --rate, or a lower --keep or --budget"
    if rows > 1:
        task = f"reading {rows:,} prompts of up to {n:,} tokens"
        hint = f"a lower --batch-size, {hint}"
    if lm.device.type == "cuda" and lm.quantize == "none":
        hint += ", or --quantize nf4"
    return memory_guard(task, needed, lm.device, hint)
