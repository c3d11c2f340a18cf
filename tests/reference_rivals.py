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


def affinity(embeds: Matrix, keep: int) -> Matrix:
    """Affinity Pooling: the highest threshold at which `keep` runs are left, runs averaged."""
    units = unit(embeds)
    likeness = [units[i] @ units[i + 1] for i in range(len(embeds) - 1)]
    for threshold in sorted([*likeness, 2.0], reverse=True):
        runs = [[embeds[0]]]
        for i in range(1, len(embeds)):
            if likeness[i - 1] >= threshold:
                runs[-1].append(embeds[i])
            else:
                runs.append([embeds[i]])
        if len(runs) <= keep:
            break
    return np.array([np.mean(run, axis=0) for run in runs])


def seats(
    embeds: Matrix, attention: NDArray[np.float64], windows: list[range], quotas: list[int]
) -> list[int]:
    """SEATS' winDivPrune: within windows, max-min of distances times the token's attention."""
    units = unit(embeds)
    kept: list[int] = []
    for window, quota in zip(windows, quotas, strict=True):
        chosen: list[int] = []
        while len(chosen) < quota:
            worth = {}
            for token in set(window) - set(chosen):
                others = chosen or [other for other in window if other != token]
                distances = [attention[token] * (1 - units[token] @ units[o]) for o in others]
                worth[token] = min(distances, default=0.0)
            chosen.append(max(worth, key=lambda token: worth[token]))
        kept += sorted(chosen)
    return kept


def samap(
    embeds: Matrix, attention: NDArray[np.float64], keep: int, threshold: float
) -> tuple[int, Matrix]:
    """SA-MAP, where merging leaves enough: how many runs that leaves, and the tokens kept."""
    units = unit(embeds)
    runs = [[0]]
    for i in range(1, len(embeds)):
        if np.mean([units[j] @ units[i] for j in runs[-1]]) >= threshold:
            runs[-1].append(i)
        else:
            runs.append([i])
    means = np.array([np.average(embeds[run], axis=0, weights=attention[run]) for run in runs])
    relevance = np.array([np.mean(attention[run]) for run in runs])
    kernel = relevance[:, None] * (unit(means) @ unit(means).T) * relevance
    chosen: list[int] = []
    while len(chosen) < keep:
        volumes = [
            -1 if i in chosen else np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])])
            for i in range(len(runs))
        ]
        chosen.append(int(np.argmax(volumes)))
    return len(runs), means[sorted(chosen)]


def vispruner(embeds: Matrix, attention: NDArray[np.float64], keep: int) -> list[int]:
    """VisPruner: half of them by attention; of the others, rounds that remove eight duplicates."""
    units, order = unit(embeds), np.argsort(-attention).tolist()
    important, left = order[: keep // 2], order[keep // 2 :]
    while len(left) > keep - keep // 2:
        others = left[1::2]
        likest = {i: max(units[i] @ units[j] for j in others) for i in left[::2]}
        ranked = sorted(likest, key=lambda i: -likest[i])
        left = ranked[min(8, len(left) - keep + keep // 2) :] + others
    return sorted(important + left)


def omniscope(embeds: Matrix, text: Matrix, seconds: list[range], keep: int) -> Matrix:
    """OmniScope's audio half, for budgets that leave every second its three tokens."""
    scores = omniscope_scores(embeds, text)
    worth = np.array([max(0, 10 * np.mean(sorted(scores[s])[-5:])) ** 2 for s in seconds])
    high = [i for i, each in enumerate(worth) if each >= np.percentile(worth, 80)]
    lifted = [
        each
        * max(
            [1.0]
            + [1.2] * (i in high)
            + [1 + 0.5 * 0.5 ** abs(i - j) for j in high if 1 <= abs(i - j) <= 3]
        )
        for i, each in enumerate(worth)
    ]
    sizes = [len(second) for second in seconds]
    quotas = omniscope_quotas(np.array(lifted), sizes, keep)
    merged = [
        omniscope_merged([embeds[i] for i in second], quota)
        for second, quota in zip(seconds, quotas, strict=True)
    ]
    return np.concatenate(merged)


def omniscope_scores(embeds: Matrix, text: Matrix) -> NDArray[np.float64]:
    """Each token's cosines with the question, weighed by a gated soft-max at 0.05."""
    cosines = unit(embeds) @ unit(text).T
    gates = np.linalg.norm(text, axis=1) / np.linalg.norm(text, axis=1).max()
    weights = np.exp(cosines * gates / 0.05)
    return (weights * cosines).sum(1) / weights.sum(1)


def omniscope_quotas(worth: NDArray[np.float64], sizes: list[int], keep: int) -> list[int]:
    """Shares in proportion to worth, cut at 3 and at all: the factor is found by bisection."""
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        shares = np.clip(middle * worth, 3, sizes)
        low, high = (middle, high) if shares.sum() < keep else (low, middle)
    quotas = np.floor(shares + 1e-9).astype(int)
    for i in np.argsort(quotas - shares, kind="stable")[: keep - quotas.sum()]:
        quotas[i] += 1
    return quotas.tolist()


def omniscope_merged(tokens: list[NDArray[np.float64]], target: int) -> Matrix:
    """Rounds in which tokens 1, 3, 5, ... most like one of the others go into it."""
    while len(tokens) > target:
        units = unit(np.array(tokens))
        leave = min(len(tokens) - target, len(tokens) // 2 - 1)
        even = range(1, len(tokens), 2)
        best = {i: max(even, key=lambda j: units[i] @ units[j]) for i in range(0, len(tokens), 2)}
        going = sorted(best, key=lambda i: -(units[i] @ units[best[i]]))[:leave]
        tokens = [
            np.mean([tokens[i], *(tokens[g] for g in going if best[g] == i)], axis=0)
            for i in range(len(tokens))
            if i not in going
        ]
    return np.array(tokens)
