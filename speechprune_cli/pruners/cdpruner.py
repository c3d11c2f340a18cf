"""Tokens relevant to the question and unlike each other (CDPruner, arXiv 2506.10967)."""

from __future__ import annotations

from typing import Any

from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._determinant import EXHAUSTED, most_diverse
from speechprune_cli.pruners._similarity import token_similarity, unit_vectors
from speechprune_cli.pruners.base import Choice, Pruner


class CDPruner(Pruner):
    """A determinantal point process whose kernel is cosine times both tokens' relevance.

    Relevance is the mean cosine with the question, scaled to 0 to 1 over the recording.
    """

    def score_and_keep(self, task: PruningTask) -> Choice:
        relevance = token_similarity(task.tokens.embeds, task.text).double()
        spread = relevance.max() - relevance.min()
        relevance = (relevance - relevance.min()) / spread if spread > 0 else relevance * 0 + 1
        features = unit_vectors(task.tokens.embeds).cpu().double()
        features *= (relevance + EXHAUSTED)[:, None]
        kept = most_diverse(features, task.keep)
        reason = f"{task.keep} tokens relevant to the question and unlike each other"
        return Choice(kept.sort().values, relevance, reason)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        return size.total * size.kept * (2 * decoder.hidden_size + size.kept)
