"""Random tokens of the whole recording, seeded (the paper's RAP)."""

from dataclasses import dataclass

from speechprune_cli.budget import top_k
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners.base import Choice, Pruner, Seed


@dataclass(frozen=True)
class Random(Pruner):
    """Under one seed, what a higher rate keeps is part of what a lower rate keeps."""

    asks = False
    reads_embeddings = False
    seed: Seed = 0

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        scores = torch.rand(len(task.tokens), generator=generator)
        reason = f"{task.keep} tokens at random, seed {self.seed}"
        return Choice(top_k(scores, task.keep), scores, reason)
