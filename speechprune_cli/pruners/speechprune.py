"""Similarity to the question, then first-layer attention (SpeechPrune, arXiv 2412.12009)."""

from dataclasses import dataclass
from typing import Any

from speechprune_cli import costs
from speechprune_cli.budget import top_k
from speechprune_cli.costs import PruningSize
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._attention import attention_received
from speechprune_cli.pruners._similarity import token_similarity
from speechprune_cli.pruners.base import Choice
from speechprune_cli.pruners.phase1 import Phase1
from speechprune_cli.pruners.phase2 import Phase2


@dataclass(frozen=True)
class SpeechPrune(Phase1, Phase2):
    """Phase 1 takes the N tokens to B1, phase 2 those to k. Settings are those of both."""

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        tokens, budget = task.tokens, task.phase1_budget
        if task.keep > budget:
            raise UsageError(f"cannot keep {task.keep} tokens of a phase-1 budget of {budget}")
        similarity = token_similarity(tokens.embeds, task.text)
        first = self.keep_by_second(similarity, tokens.per_second, budget)
        survivors = tokens.embeds[first.to(tokens.embeds.device)]
        attention = attention_received(survivors, task.first_layer, self.scale, self.heads)
        kept = first[top_k(attention, task.keep, tie_break=similarity[first])]
        scores = torch.full_like(similarity, -torch.inf).index_copy_(0, first, attention)
        reason = (
            f"{len(tokens)} -> {len(first)} tokens by similarity to the question, "
            f"-> {len(kept)} by first-layer attention"
        )
        if len(kept) < task.keep:
            reason += f" ({task.keep} asked for: faithful budgets lost the rest)"
        return Choice(kept, scores, reason)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        compared = costs.similarity_flops(decoder, size.total)
        return compared + costs.received_attention_flops(decoder, size.budget)

    def working_bytes(self, decoder: Any, size: PruningSize) -> int:
        attention = costs.received_attention_bytes(decoder, size.budget)
        return max(Phase1.working_bytes(self, decoder, size), attention)
