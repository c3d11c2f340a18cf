"""Rival methods written straight from their papers, in float64 loops over few tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def unit(vectors: Matrix) -> Matrix:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def divprune(embeds: Matrix, keep: int) -> list[int]:
    """DivPrune: maximise the least distance, greedily from the most isolated token."""
    distance = 1 - unit(embeds) @ unit(embeds).T
    alone = [min(distance[i, j] for j in range(len(embeds)) if j != i) for i in range(len(embeds))]
    chosen = [int(np.argmax(alone))]
    while len(chosen) < keep:
        far = [-1 if i in chosen else min(distance[i, chosen]) for i in range(len(embeds))]
        chosen.append(int(np.argmax(far)))
    return sorted(chosen)


def cdpruner(embeds: Matrix, text: Matrix, keep: int) -> list[int]:
    """CDPruner: each time the token that enlarges the conditional kernel's determinant most."""
    relevance = (unit(embeds) @ unit(text).T).mean(1)
    relevance = (relevance - relevance.min()) / (relevance.max() - relevance.min())
    kernel = relevance[:, None] * (unit(embeds) @ unit(embeds).T) * relevance
    chosen: list[int] = []
    while len(chosen) < keep:
        volumes = [
            -1 if i in chosen else np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])])
            for i in range(len(embeds))
        ]
        chosen.append(int(np.argmax(volumes)))
    return sorted(chosen)


def dart(embeds: Matrix, keep: int, pivots: int) -> list[int]:
    """DART: pivots of the largest norm, each keeps its share of the tokens least like it."""
    chosen = sorted(np.argsort(-np.linalg.norm(embeds, axis=1))[:pivots].tolist())
    units, first = unit(embeds), list(chosen)
    for number, pivot in enumerate(first):
        share = (keep - len(chosen)) // (len(first) - number)
        left = [i for i in range(len(embeds)) if i not in chosen]
        chosen += sorted(left, key=lambda i: units[i] @ units[pivot])[:share]
    return sorted(chosen)


def atome(embeds: Matrix, keep: int) -> Matrix:
    """A-ToMe: rounds that average the most similar of the pairs (1, 2), (3, 4), ..."""
    groups = [[row] for row in embeds]
    while len(groups) > keep:
        means = unit(np.array([np.mean(group, axis=0) for group in groups]))
        pairs = range(0, len(groups) - 1, 2)
        best = sorted(pairs, key=lambda i: -(means[i] @ means[i + 1]))[: len(groups) - keep]
        for i in sorted(best, reverse=True):
            groups[i : i + 2] = [groups[i] + groups[i + 1]]
    return np.array([np.mean(group, axis=0) for group in groups])


def fastadasp(embeds: Matrix, weights: NDArray[np.float64], keep: int) -> Matrix:
    """FastAdaSP: join the most similar neighbours, average runs by their weights."""
    units = unit(embeds)
    likeness = [units[i] @ units[i + 1] for i in range(len(embeds) - 1)]
    joined = set(np.argsort(likeness)[::-1][: len(embeds) - keep].tolist())
    runs = [[0]]
    for i in range(1, len(embeds)):
        if i - 1 in joined:
            runs[-1].append(i)
        else:
            runs.append([i])
    return np.array([np.average(embeds[run], axis=0, weights=weights[run]) for run in runs])
