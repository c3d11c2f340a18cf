"""SpeechPrune's equations 4 to 13 in float64, written straight from the paper, loops and all.

Nothing here is fast or shared with the package: it builds the `[N, L]` matrix of cosines and the
`[H, n, n]` attention. Where the paper leaves a choice open (exact budgets, which axis of the
attention, ties) it follows the project's reading, said at the function.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def cosines(speech: Array, text: Array) -> Array:
    """F `[N, L]` (eq. 4). A zero vector is similar to nothing."""
    speech_norm = np.linalg.norm(speech, axis=1, keepdims=True)
    text_norm = np.linalg.norm(text, axis=1, keepdims=True)
    unit_speech = np.divide(speech, speech_norm, where=speech_norm > 0, out=np.zeros_like(speech))
    unit_text = np.divide(text, text_norm, where=text_norm > 0, out=np.zeros_like(text))
    return unit_speech @ unit_text.T


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def frame_scores(similarity: Array, per_second: int) -> Array:
    """Frame-wise accumulation `[m]` of token scores `[N]` (eq. 5); the last frame may be short."""
    frames = math.ceil(len(similarity) / per_second)
    return np.array(
        [similarity[i * per_second : (i + 1) * per_second].sum() for i in range(frames)]
    )


def faithful_quotas(scores: Array, budget: int, temperature: float = 1.0) -> list[int]:
    """n_i = floor(budget p_i) (eq. 6 and 7)."""
    return [math.floor(budget * p) for p in softmax(scores / temperature)]


def exact_quotas(
    scores: Array, sizes: list[int], budget: int, temperature: float = 1.0
) -> list[int]:
    """Shares min(size, lambda p) that sum to the budget, rounded by largest remainder.

    Lambda is found by filling frames in the order in which a rising lambda fills them. Equal
    remainders go to the earlier frame.
    """
    p = softmax(scores / temperature)
    shares = np.zeros(len(p))
    fills_first = sorted(range(len(p)), key=lambda i: sizes[i] / p[i])
    for filled, i in enumerate(fills_first):
        rest = budget - shares.sum()
        shares[i] = min(sizes[i], rest * p[i] / p[fills_first[filled:]].sum())
    shares = np.round(shares, 9)
    quotas = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(p)), key=lambda i: quotas[i] - shares[i])
    for i in by_remainder[: budget - sum(quotas)]:
        quotas[i] += 1
    return quotas


def phase1(
    speech: Array,
    text: Array,
    per_second: int,
    budget: int,
    *,
    mode: str = "exact",
    temperature: float = 1.0,
) -> Indices:
    """Indices that survive the first phase (eq. 4 to 9). Budgets of N or more keep all."""
    if budget >= len(speech):
        return np.arange(len(speech))
    similarity = cosines(speech, text).mean(axis=1)
    scores = frame_scores(similarity, per_second)
    starts = range(0, len(speech), per_second)
    if mode == "faithful":
        quotas = faithful_quotas(scores, budget, temperature)
    else:
        sizes = [len(similarity[start : start + per_second]) for start in starts]
        quotas = exact_quotas(scores, sizes, budget, temperature)
    kept: list[int] = []
    for start, quota in zip(starts, quotas, strict=True):
        frame = similarity[start : start + per_second].round(12)
        kept += [start + int(j) for j in np.argsort(-frame, kind="stable")[:quota]]
    return np.array(sorted(kept), dtype=np.int64)


def attention(
    survivors: Array, q_weight: Array, k_weight: Array, heads: int, kv_heads: int, *, scale: str
) -> Array:
    """A `[H, n, n]`, rows are queries (eq. 10 to 12), K heads repeated for grouped queries."""
    signs, q_signs, k_signs = np.sign(survivors), np.sign(q_weight), np.sign(k_weight)
    d_k = len(q_weight) // heads
    per_head = []
    for head in range(heads):
        kv_head = head // (heads // kv_heads)
        queries = signs @ q_signs[head * d_k : (head + 1) * d_k].T
        keys = signs @ k_signs[kv_head * d_k : (kv_head + 1) * d_k].T
        logits = queries @ keys.T
        spread = logits.std() or 1.0
        per_head.append(softmax(logits / (math.sqrt(d_k) if scale == "paper" else spread)))
    return np.stack(per_head)


def received(attention: Array, over_heads: str = "mean") -> Array:
    """Eq. 13's mean, over queries: the attention each token receives, 1 being a fair share."""
    per_head = attention.mean(axis=1) * attention.shape[-1]
    return per_head.mean(axis=0) if over_heads == "mean" else per_head.max(axis=0)


def phase2(received: Array, similarity: Array, k: int, resolution: float = 2.0**-20) -> Indices:
    """The k tokens that receive most (eq. 13).

    Those that receive the same to within the resolution tie, and the higher similarity to the
    question decides, then time.
    """
    order = np.lexsort((-similarity.round(12), -np.round(received / resolution)))
    return np.sort(order[:k])
