"""Binarized first-layer attention alone (SpeechPrune's second phase)."""

from dataclasses import dataclass
from typing import Any

from speechprune_cli import costs
from speechprune_cli.budget import top_k
from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._attention import Heads, Scale, attention_received
from speechprune_cli.pruners._similarity import token_similarity
from speechprune_cli.pruners.base import Choice, Pruner


@dataclass(frozen=True)
class Phase2(Pruner):
    """Equations 10 to 13 on the whole recording; ties go to the token closer to the question."""

    scale: Scale = "paper"  # logits over sqrt(d_k), or `normalised` by their standard deviation
    heads: Heads = "mean"  # over heads, the mean or the highest of the attention received

    def score_and_keep(self, task: PruningTask) -> Choice:
        embeds = task.tokens.embeds
        similarity = token_similarity(embeds, task.text)
        scores = attention_received(embeds, task.first_layer, self.scale, self.heads)
        kept = top_k(scores, task.keep, tie_break=similarity)
        return Choice(kept, scores, f"{len(scores)} -> {len(kept)} tokens by first-layer attention")

    def flops(self, decoder: Any, size: PruningSize) -> int:
        compared = costs.similarity_flops(decoder, size.total)
        return compared + costs.received_attention_flops(decoder, size.total)

    def working_bytes(self, decoder: Any, size: PruningSize) -> int:
        return costs.received_attention_bytes(decoder, size.total)
