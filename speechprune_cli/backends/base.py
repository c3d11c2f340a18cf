"""What every Speech LLM family shares: prompts, reading, generating, choosing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import DynamicCache

from speechprune_cli.backends._decoding import (
    Writer,
    read_prompts,
    score_batch,
    write_answers,
)
from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.config import Preset
from speechprune_cli.device import PeakMemory, Placement, Stopwatch, memory_guard
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import Answer, Audio, AudioTokens, FirstLayer, Prompt, Selection
from speechprune_cli import costs

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

    family: ClassVar[str] = "qwen2_audio"
    provides: ClassVar[frozenset[str]] = frozenset({"the encoder's attention"})

    @property
    def input_tokens(self) -> int:
        return self.window_tokens

    @property
    def input_seconds(self) -> float:
        return self.window_seconds

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

    @cached_property
    def vocabulary_mean(self) -> Tensor:
        """Mean `[D]` of all word embeddings, in float32."""
        weight = self.model.get_input_embeddings().weight.detach()
        return torch.stack([rows.float().sum(0) for rows in weight.split(8192)]).sum(0) / len(
            weight
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
        """Read the prompt: its KV cache, and the logits `[V]` of the token that follows."""
        reading, logits = read_prompts(self, [prompt])
        return reading.cache, logits[0]

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
        return self._generate([prompt], max_new_tokens, on_text)[0]

    def generate_batch(self, prompts: Sequence[Prompt], max_new_tokens: int = 64) -> list[Answer]:
        """`generate` for prompts read side by side.

        Answers are those of one prompt at a time in float32; in 16 bits, padding may tip a tie.
        Each answer's seconds are its share of the batch's, its peak of memory is the batch's.
        """
        return self._generate(prompts, max_new_tokens)

    def choose(self, prompt: Prompt, choices: Sequence[str]) -> Answer:
        """Answer with the likeliest of `choices`; the prompt is read once for all of them.

        `probabilities` is the softmax of the mean log-likelihoods per token (`score_batch`).
        Raises `UsageError` for fewer than two choices, an empty one and two that are the same.
        """
        return self.choose_batch([prompt], [choices])[0]

    @torch.no_grad()
    def choose_batch(
        self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]
    ) -> list[Answer]:
        """`choose` for prompts read side by side, each with choices of its own.

        What `generate_batch` says of answers, seconds and memory goes for these too.
        """
        if len(prompts) != len(choices):
            raise UsageError(f"{len(prompts)} prompts, but choices for {len(choices)}")
        options = [self._option_ids(of_prompt) for of_prompt in choices]
        if not prompts:
            return []
        peak, clock = PeakMemory(self.device), Stopwatch(self.device)
        with self._guard_prompts(prompts, options):
            reading, logits = read_prompts(self, prompts)
            prefill_seconds = clock.lap() / len(prompts)
            scores = score_batch(reading, logits, options)
            probabilities = [of_prompt.softmax(0).tolist() for of_prompt in scores]
        decode_seconds = clock.lap() / len(prompts)
        return [
            Answer(
                text=texts[int(of_prompt.argmax())],
                probabilities=dict(zip(texts, shares, strict=True)),
                new_tokens=0,
                finished=True,
                prefill_seconds=prefill_seconds,
                decode_seconds=decode_seconds,
                peak_memory_bytes=peak.bytes(),
            )
            for texts, of_prompt, shares in zip(choices, scores, probabilities, strict=True)
        ]

    @torch.no_grad()
    def _generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        on_text: Callable[[str], None] | None = None,
    ) -> list[Answer]:
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}: it must be at least 1")
        if not prompts:
            return []
        peak, clock = PeakMemory(self.device), Stopwatch(self.device)
        writers = [Writer(self, max_new_tokens, on_text) for _ in prompts]
        with self._guard_prompts(prompts):
            reading, logits = read_prompts(self, prompts)
            prefill_seconds = clock.lap() / len(prompts)
            write_answers(reading, logits, writers)
        texts = [writer.close() for writer in writers]
        decode_seconds = clock.lap() / len(prompts)
        return [
            Answer(
                text=text,
                probabilities=None,
                new_tokens=len(writer.ids),
                finished=writer.finished,
                prefill_seconds=prefill_seconds,
                decode_seconds=decode_seconds,
                peak_memory_bytes=peak.bytes(),
            )
            for text, writer in zip(texts, writers, strict=True)
        ]

    def _option_ids(self, choices: Sequence[str]) -> list[list[int]]:
        options = [self._text_ids(choice) for choice in choices]
        if len(options) < 2 or not all(options) or len(set(choices)) < len(options):
            raise UsageError("choices: give at least two, none of them empty, all different")
        return options

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

    def _guard_prompts(
        self, prompts: Sequence[Prompt], options: Sequence[list[list[int]]] = ()
    ) -> AbstractContextManager[None]:
        lengths = [prompt.inputs_embeds.shape[1] for prompt in prompts]
        rows, n, size = len(prompts), max(lengths), self.dtype.itemsize
        needed = rows * costs.prefill_bytes(self.text_config, n, size)
        if min(lengths) < n:
            needed += rows * n**2 * (1 + size)  # the mask in bool and in the model's dtype
        if flat := [ids for of_prompt in options for ids in of_prompt]:
            logits = len(flat) * max(map(len, flat)) * self.text_config.vocab_size
            needed += len(flat) * costs.kv_cache_bytes(self.text_config, n, size)
            needed += logits * (2 * size + 8)  # twice as computed, twice in float32
        task, hint = f"reading {n:,} tokens", "a higher --rate, or a lower --keep or --budget"
        if rows > 1:
            task = f"reading {rows:,} prompts of up to {n:,} tokens"
            hint = f"a lower --batch-size, {hint}"
        if self.device.type == "cuda" and self.quantize == "none":
            hint += ", or --quantize nf4"
        return memory_guard(task, needed, self.device, hint)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        raise ModelError("neither generation_config.json nor the tokenizer names an end token")
    return frozenset(ends if isinstance(ends, list) else [ends])
