"""How well ways of scoring audio tokens find the sentence that answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.verdict import recall
from speechprune_cli.pipeline import Session


def scores(embeds: Tensor, text: Tensor, words: Tensor) -> dict[str, Tensor]:
    """Ways `[N]` to score audio tokens `[N, D]` by a question `[L, D]`, the paper's first.

    Centring takes the recording's mean from its tokens and that of all `words` `[V, D]` from the
    question's.
    """
    centred_text = normalize(text - words.mean(0), dim=-1)
    cosine = normalize(embeds, dim=-1) @ normalize(text, dim=-1).T
    centred = normalize(embeds - embeds.mean(0), dim=-1) @ centred_text.T
    return {
        "mean cosine": cosine.mean(1),
        "mean cosine, both sides centred": centred.mean(1),
        "maximum over question tokens": cosine.amax(1),
        "maximum, both sides centred": centred.amax(1),
    }


def enrichment(session: Session, samples: Sequence[Sample], keep: Sequence[int]) -> str:
    """Markdown: how much likelier the answering sentence's tokens are to be among the best."""
    gains: dict[tuple[str, int], list[float]] = defaultdict(list)
    words = session.model.word_embeddings.detach().float()
    for sample in samples:
        if sample.key_span is None:
            continue
        tokens = session.encode(sample.audio)
        text = session.model.embed_text(sample.question).float()
        for (name, score), k in product(scores(tokens.embeds.float(), text, words).items(), keep):
            kept = score.topk(min(k, len(score))).indices.cpu()
            gains[name, k].append(enriched(kept, tokens.times, sample.key_span))
    lines = [f"| score | {' | '.join(f'best {k}' for k in keep)} |", "|---" * (1 + len(keep)) + "|"]
    for name in dict.fromkeys(name for name, _ in gains):
        means = (torch.tensor(gains[name, k]).mean() for k in keep)
        lines.append(f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return "\n".join(lines)


def enriched(kept: Tensor, times: Tensor, span: tuple[float, float]) -> float:
    """Share kept of the tokens inside `span`, over the share kept of all (`times` `[N, 2]`)."""
    inside = (times[:, 1] > span[0]) & (times[:, 0] < span[1])
    mask = torch.zeros(len(times), dtype=torch.bool)
    mask[kept] = True
    return (mask[inside].float().mean() / mask.float().mean()).item()


def settings_recall(
    session: Session,
    samples: Sequence[Sample],
    variants: Sequence[dict[str, Any]],
    rates: Sequence[float],
) -> str:
    """Markdown: key-sentence recall of `speechprune` under settings, without decoding."""
    found: dict[tuple[int, float], list[float]] = defaultdict(list)
    for sample in samples:
        tokens = session.encode(sample.audio)
        for (number, variant), rate in product(enumerate(variants), rates):
            kept = session.prune(
                tokens, sample.question, method="speechprune", rate=rate, **variant
            ).kept
            share = recall(sample.key_span, tokens.times, kept)
            if share is not None:
                found[number, rate].append(share)
    lines = [f"| settings | {' | '.join(f'rate {r:g}' for r in rates)} |"]
    lines.append("|---" * (1 + len(rates)) + "|")
    for number, variant in enumerate(variants):
        name = ", ".join(f"{key}={value}" for key, value in variant.items()) or "as shipped"
        means = (100 * torch.tensor(found[number, rate]).mean().item() for rate in rates)
        lines.append(f"| {name} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    return "\n".join(lines)
