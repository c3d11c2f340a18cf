"""What pruning itself costs; every method's file says how much it computes."""

from __future__ import annotations

from typing import Any

from speechprune_cli.bench.grid import split_method
from speechprune_cli.costs import PruningSize, key_width, query_width
from speechprune_cli.pruners import get_pruner

TOKENS_PER_BLOCK = 8192
"""Of `pruners/_similarity.py`."""


def pruning_flops(decoder: Any, method: str, size: PruningSize) -> int | None:
    """What `method` computes to prune; None where that is not counted."""
    name, settings = split_method(method)
    return get_pruner(name, **settings).flops(decoder, size)


def pruning_bytes(decoder: Any, method: str, size: PruningSize) -> int:
    """What `method` holds in float32 while it prunes, about.

    Phase 1 normalises a block of tokens at a time, phase 2 holds the queries and keys of all that
    compete; other methods that compare tokens hold one normalised copy of them.
    """
    hidden, query, key = decoder.hidden_size, query_width(decoder), key_width(decoder)
    if pruning_flops(decoder, method, size) == 0:
        return 0
    name, _ = split_method(method)
    if name not in {"speechprune", "phase1", "phase2"}:
        return 4 * size.total * hidden
    similarity = 3 * min(size.total, TOKENS_PER_BLOCK) * hidden
    rivals = {"phase2": size.total, "speechprune": size.budget}.get(name, 0)
    attention = rivals * (2 * hidden + query + key) + 2 * hidden * query if rivals else 0
    return 4 * max(similarity, attention)
