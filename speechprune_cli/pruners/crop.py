"""One random contiguous span of the recording, seeded (the paper's RAC)."""

from dataclasses import dataclass

from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners.base import Choice, Pruner, Seed, membership


@dataclass(frozen=True)
class Crop(Pruner):
    """Every start that fits is equally likely."""

    asks = False
    reads_embeddings = False
    seed: Seed = 0

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        total = len(task.tokens)
        generator = torch.Generator().manual_seed(self.seed)
        start = int(torch.randint(total - task.keep + 1, (), generator=generator))
        kept = torch.arange(start, start + task.keep)
        reason = f"one span of {task.keep} tokens, seed {self.seed}"
        return Choice(kept, membership(kept, total), reason)
