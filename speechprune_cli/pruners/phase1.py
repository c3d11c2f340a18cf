"""Similarity to the question alone, second by second (SpeechPrune's first phase)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from speechprune_cli.budget import BudgetMode, frame_quotas, top_per_frame
from speechprune_cli.costs import PruningSize, similarity_flops
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._similarity import TOKENS_PER_BLOCK, token_similarity
from speechprune_cli.pruners.base import Choice, Pruner

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Phase1(Pruner):
    """Equations 4 to 9, with the final budget in place of B1."""

    budget_mode: BudgetMode = "exact"
    """`exact` hands out every token of the budget; `faithful` loses some, as the paper's does."""
    temperature: Annotated[float, Interval(gt=0, lt=inf)] = 1.0  # of the softmax over seconds

    def score_and_keep(self, task: PruningTask) -> Choice:
        scores = token_similarity(task.tokens.embeds, task.text)
        kept = self.keep_by_second(scores, task.tokens.per_second, task.keep)
        reason = f"{len(scores)} -> {len(kept)} tokens by similarity to the question"
        return Choice(kept, scores, reason)

    def keep_by_second(self, scores: Tensor, per_second: float, budget: int) -> Tensor:
        """Sorted indices, about `budget`, by `scores` `[N]` (eq. 5 to 9). Raises UsageError."""
        import torch

        frames = (torch.arange(len(scores), dtype=torch.float64) / per_second).long()
        frame_scores = frames.bincount(weights=scores.double())
        sizes = frames.bincount()
        quotas = frame_quotas(frame_scores, sizes, budget, self.budget_mode, self.temperature)
        kept = top_per_frame(scores, frames, quotas)
        if not len(kept):
            raise UsageError(
                f"faithful budgets leave nothing of {budget} tokens over {len(quotas)} seconds: "
                "use the exact budget mode or keep more"
            )
        return kept

    def flops(self, decoder: Any, size: PruningSize) -> int:
        return similarity_flops(decoder, size.total)

    def working_bytes(self, decoder: Any, size: PruningSize) -> int:
        """A block of tokens is normalised at a time."""
        return 12 * min(size.total, TOKENS_PER_BLOCK) * decoder.hidden_size
