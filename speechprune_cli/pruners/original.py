"""The recording cut where the original model stops reading (30 s for Qwen2-Audio)."""

from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners.base import Choice, Pruner, membership


class Original(Pruner):
    """The model's own input length, whatever the budget."""

    asks = False
    takes_amount = False
    hears_all = False
    reads_embeddings = False

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        kept = torch.arange(task.first)
        return Choice(kept, membership(kept, len(task.tokens)), f"the first {len(kept)} tokens")

    def retained(self, size: PruningSize) -> int:
        return size.first
