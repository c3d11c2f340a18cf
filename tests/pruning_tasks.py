"""Random pruning tasks for the tests of pruners."""

from __future__ import annotations

from dataclasses import replace

import torch

from speechprune_cli.flow import (
    AudioTokens,
    FirstLayer,
    PruningTask,
    Sentence,
    Transcript,
    Word,
)

WORDS = ["when", "is", "the", "report", "due?", "it", "on", "Friday,", "nobody", "lives", "here"]


def audio_tokens(embeds: torch.Tensor, per_second: float = 25) -> AudioTokens:
    """Tokens `[N, D]` at `per_second`, timed without gaps, as loud and as attended to as may be."""
    generator = torch.Generator().manual_seed(len(embeds))
    starts = torch.arange(len(embeds)) / per_second
    return AudioTokens(
        embeds=embeds,
        times=torch.stack([starts, starts + 1 / per_second], dim=1),
        per_second=per_second,
        seconds=len(embeds) / per_second,
        encode_seconds=0.0,
        loudness=-60 * torch.rand(len(embeds), generator=generator),
        attention=2 * torch.rand(len(embeds), generator=generator),
    )


def pruning_task(
    *,
    n: int = 200,
    length: int = 7,
    width: int = 32,
    heads: tuple[int, int] = (4, 4),
    budget: int | None = None,
    keep: int = 50,
    per_second: float = 25,
    repeats: int = 1,
    seed: int = 0,
) -> PruningTask:
    """Gaussian embeddings that lean to a common direction, as real ones do.

    Tokens come in `repeats` equal copies, spread over the recording, so that they tie exactly.
    """
    generator = torch.Generator().manual_seed(seed)

    def gaussian(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    common = gaussian(width)
    distinct = gaussian(-(-n // repeats), width) + common
    query_heads, kv_heads = heads
    head_width = width // query_heads
    return PruningTask(
        tokens=audio_tokens(distinct.repeat(repeats, 1)[:n], per_second),
        text=gaussian(length, width) + common / 2,
        asked=" ".join(["word"] * length),
        question_length=length,
        vocabulary_mean=common / 3,
        first_layer=FirstLayer(
            q_weight=gaussian(query_heads * head_width, width),
            k_weight=gaussian(kv_heads * head_width, width),
            heads=query_heads,
            kv_heads=kv_heads,
        ),
        first=n if budget is None else budget,
        phase1_budget=n if budget is None else budget,
        keep=keep,
    )


def written(task: PruningTask, length: int = 7) -> PruningTask:
    """The same with a transcript of it: a word for two tokens, `length` words to a sentence."""
    total = len(task.tokens)
    words = [
        Word(f" {WORDS[number * number % len(WORDS)]}", number, number + 1)
        for number in range((total + 1) // 2)
    ]
    starts = range(0, len(words), length)
    sentences = tuple(Sentence(tuple(words[start : start + length])) for start in starts)
    numbers = torch.arange(total) // 2
    tokens = replace(
        task.tokens,
        words=numbers,
        sentences=numbers // length,
        transcript=Transcript(sentences, "en", "a test"),
    )
    return replace(task, tokens=tokens, asked="When is the report due?")
