"""What every Speech LLM family shares: prompts, reading, generating, choosing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import DynamicCache

from speechprune_cli import costs
from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.config import Preset
from speechprune_cli.device import PeakMemory, Placement, Stopwatch, memory_guard
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import Answer, Audio, AudioTokens, FirstLayer, Prompt, Selection

ProgressCallback = Callable[[int, int], None]
"""Called with the windows done and the windows in all."""


class SpeechLM(ABC):
    """A loaded Speech LLM: audio in, text out, with everything between open to pruning.

    A family says how audio is encoded and how a prompt is written; the rest is here.
    """

    code_version: ClassVar[str]
    """Changes whenever `encode` would give other tokens: part of the cache's key."""
    model_class: ClassVar[Any]
    quantise_skip: ClassVar[list[str]]
    """Modules that stay unquantised, by their full prefix: a bare name is silently ignored."""
    audio_token_id: int
    window_seconds: float
    window_tokens: int
    """Tokens of one full window: the original model's own input length."""

    def __init__(
        self,
        preset: Preset,
        checkpoint: Checkpoint,
        placement: Placement,
        model: Any,
        tokenizer: Any,
    ) -> None:
        self.preset = preset
        self.checkpoint = checkpoint
        self.revision = checkpoint.revision
        self.device = placement.device
        self.dtype = placement.dtype
        self.quantize = placement.quantize
        self.decisions = placement.decisions
        self.model = model
        self.tokenizer = tokenizer
        self.text_config = model.config.get_text_config()
        self.end_tokens = _end_tokens(model, tokenizer)

    @classmethod
    @abstractmethod
    def load(cls, preset: Preset, checkpoint: Checkpoint, placement: Placement) -> SpeechLM:
        """Load weights and tokenizer. Raises `ModelError`, `OutOfMemoryError`."""

    @abstractmethod
    def encode(
        self, audio: Audio, batch_size: int = 4, on_progress: ProgressCallback | None = None
    ) -> AudioTokens:
        """All tokens of a recording of any length, `batch_size` windows at a time."""

    @abstractmethod
    def render(self, question: str, choices: Sequence[str] = ()) -> str:
        """The chat prompt with one audio placeholder, up to where the answer begins."""

    @property
    def language_model(self) -> Any:
        """The decoder without its output head."""
        return self.model.model.language_model

    @property
    def hidden_size(self) -> int:
        """D, the width of the embeddings."""
        return self.text_config.hidden_size

    @property
    def tokens_per_second(self) -> float:
        """f in the paper."""
        return self.window_tokens / self.window_seconds

    def first_layer(self) -> FirstLayer:
        """Query and key weights of the first decoder layer.

        A quantised model's packed layout is no use for signs, so those come from the checkpoint.
        """
        attention = self.language_model.layers[0].self_attn
        if self.quantize == "none":
            q_weight, k_weight = attention.q_proj.weight.detach(), attention.k_proj.weight.detach()
        else:
            q_weight, k_weight = (
                self.checkpoint.read_tensor(f"layers.0.self_attn.{name}.weight").to(self.device)
                for name in ("q_proj", "k_proj")
            )
        config = self.text_config
        return FirstLayer(
            q_weight, k_weight, config.num_attention_heads, config.num_key_value_heads
        )

    @torch.no_grad()
    def embed_text(self, text: str) -> Tensor:
        """Word embeddings `[L, D]` of `text` alone. Raises `UsageError` where it is empty."""
        ids = self._text_ids(text)
        if not ids:
            raise UsageError("the text to match the audio against is empty")
        return self._embed(ids)

    @torch.no_grad()
    def build_prompt(
        self,
        tokens: AudioTokens,
        selection: Selection,
        question: str,
        position: str = "repacked",
        choices: Sequence[str] = (),
    ) -> Prompt:
        """Put the retained tokens where the rendered prompt has its audio placeholder.

        `repacked` numbers the shortened prompt 0, 1, 2, ...; `original` leaves every token at the
        position it would have had with nothing pruned. Raises `UsageError` for another `position`
        or a question that holds the placeholder itself.
        """
        text = self.render(question, choices)
        ids = self.tokenizer(text).input_ids
        if ids.count(self.audio_token_id) != 1:
            placeholder = self.tokenizer.convert_ids_to_tokens(self.audio_token_id)
            raise UsageError(f"the question must not contain {placeholder}")
        split = ids.index(self.audio_token_id)
        before, after = self._embed(ids[:split]), self._embed(ids[split + 1 :])
        audio = selection.apply(tokens).to(before)
        return Prompt(
            inputs_embeds=torch.cat([before, audio, after]).unsqueeze(0),
            position_ids=self._positions(position, len(before), len(after), tokens, selection),
            text=text,
            audio_tokens=len(audio),
            text_tokens=len(ids) - 1,
        )

    @torch.no_grad()
    def prefill(self, prompt: Prompt) -> tuple[DynamicCache, Tensor]:
        """Read the prompt: its KV cache, and the logits `[V]` of the token that follows.

        No mask is passed, so attention runs causally without an n x n matrix, and the output head
        sees the last position only. Passing the cache also keeps gaps in `position_ids` from being
        taken for the borders of packed sequences.
        """
        cache = DynamicCache(config=self.text_config)
        hidden = self._read(prompt.inputs_embeds, prompt.position_ids, cache)
        return cache, self.model.lm_head(hidden[0, -1:])[0]

    @torch.no_grad()
    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int = 64,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer greedily: the most likely token each time, no repetition penalty.

        `on_text` receives the answer piece by piece. The end token counts neither into
        `new_tokens` nor into `max_new_tokens`.
        """
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}: it must be at least 1")
        peak, clock, ids = PeakMemory(self.device), Stopwatch(self.device), list[int]()
        stream = TextStream(self.tokenizer, on_text)
        with self._guard_prompt(prompt):
            cache, logits = self.prefill(prompt)
            prefill_seconds = clock.lap()
            token, position = int(logits.argmax()), _next_position(prompt)
            while token not in self.end_tokens and len(ids) < max_new_tokens:
                ids.append(token)
                stream.push(ids)
                hidden = self._read(self._embed([token])[None], position, cache)
                token, position = int(self.model.lm_head(hidden[0, -1]).argmax()), position + 1
        return Answer(
            text=stream.close(ids).strip(),
            probabilities=None,
            new_tokens=len(ids),
            finished=token in self.end_tokens,
            prefill_seconds=prefill_seconds,
            decode_seconds=clock.lap(),
            peak_memory_bytes=peak.bytes(),
        )

    @torch.no_grad()
    def choose(self, prompt: Prompt, choices: Sequence[str]) -> Answer:
        """Answer with the likeliest of `choices`; the prompt is read once for all of them.

        `probabilities` is the softmax of `score_options`. Raises `UsageError` for fewer than two
        choices, for an empty one and for two that are the same.
        """
        options = [self._text_ids(choice) for choice in choices]
        if len(options) < 2 or not all(options) or len(set(choices)) < len(options):
            raise UsageError("choices: give at least two, none of them empty, all different")
        peak, clock = PeakMemory(self.device), Stopwatch(self.device)
        with self._guard_prompt(prompt, copies=1 + len(options)):
            cache, logits = self.prefill(prompt)
            prefill_seconds = clock.lap()
            scores = self.score_options(prompt, cache, logits, options)
            probabilities = scores.softmax(0).tolist()
        return Answer(
            text=choices[int(scores.argmax())],
            probabilities=dict(zip(choices, probabilities, strict=True)),
            new_tokens=0,
            finished=True,
            prefill_seconds=prefill_seconds,
            decode_seconds=clock.lap(),
            peak_memory_bytes=peak.bytes(),
        )

    @torch.no_grad()
    def score_options(
        self, prompt: Prompt, cache: DynamicCache, logits: Tensor, options: list[list[int]]
    ) -> Tensor:
        """Mean log-likelihood per token `[options]` of each option as the start of the answer.

        `cache` and `logits` are what `prefill` gave; the cache is used up. Options are padded on
        the right, where the causal mask keeps the padding from being seen.
        """
        count, longest = len(options), max(map(len, options))
        ids = torch.zeros(count, longest, dtype=torch.long, device=self.device)
        valid = torch.zeros(count, longest, device=self.device)
        for row, option in enumerate(options):
            ids[row, : len(option)] = torch.tensor(option, device=self.device)
            valid[row, : len(option)] = 1
        following = logits.expand(count, 1, -1)
        if longest > 1:
            cache.batch_repeat_interleave(count)
            positions = _next_position(prompt) + torch.arange(longest - 1, device=self.device)
            embeds = self.model.get_input_embeddings()(ids[:, :-1])
            hidden = self._read(embeds, positions.expand(count, -1), cache)
            following = torch.cat([following, self.model.lm_head(hidden)], dim=1)
        log_likelihood = following.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        return (log_likelihood * valid).sum(1) / valid.sum(1)

    def _read(self, embeds: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        return self.language_model(
            inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state

    def _text_ids(self, text: str) -> list[int]:
        return self.tokenizer(text.strip(), add_special_tokens=False).input_ids

    def _embed(self, ids: list[int]) -> Tensor:
        return self.model.get_input_embeddings()(torch.tensor(ids, device=self.device))

    def _positions(
        self, mode: str, before: int, after: int, tokens: AudioTokens, selection: Selection
    ) -> Tensor:
        if mode == "repacked":
            positions = torch.arange(before + len(selection.kept) + after)
        elif mode == "original":
            text_after = before + len(tokens) + torch.arange(after)
            positions = torch.cat([torch.arange(before), before + selection.kept.cpu(), text_after])
        else:
            raise UsageError(f"unknown position '{mode}': repacked or original")
        return positions.unsqueeze(0).to(self.device)

    def _guard_prompt(self, prompt: Prompt, copies: int = 1) -> AbstractContextManager[None]:
        n, size = prompt.inputs_embeds.shape[1], self.dtype.itemsize
        needed = costs.prefill_bytes(self.text_config, n, size)
        needed += (copies - 1) * costs.kv_cache_bytes(self.text_config, n, size)
        hint = "a higher --rate, or a lower --keep or --budget"
        if self.device.type == "cuda" and self.quantize == "none":
            hint += ", or --quantize nf4"
        return memory_guard(f"reading {n:,} tokens", needed, self.device, hint)


class TextStream:
    """Turns growing token ids into text, handing on only what can no longer change."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None] | None) -> None:
        self.tokenizer = tokenizer
        self.on_text = on_text
        self.sent = ""

    def push(self, ids: list[int]) -> None:
        """Send what is new, unless it ends within a character of several bytes."""
        if self.on_text is not None and not (text := self._decode(ids)).endswith("\ufffd"):
            self._send(text)

    def close(self, ids: list[int]) -> str:
        """Send what is left and return the whole text."""
        text = self._decode(ids)
        self._send(text)
        return text

    def _send(self, text: str) -> None:
        new, self.sent = text[len(self.sent) :], text
        if new and self.on_text is not None:
            self.on_text(new)

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        raise ModelError("neither generation_config.json nor the tokenizer names an end token")
    return frozenset(ends if isinstance(ends, list) else [ends])


def _next_position(prompt: Prompt) -> Tensor:
    return prompt.position_ids[:, -1:] + 1
