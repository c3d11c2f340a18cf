"""Every token of the whole recording, nothing pruned."""

from speechprune_cli.costs import PruningSize
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners.base import Choice, Pruner, membership


class Full(Pruner):
    """All N tokens."""

    asks = False
    takes_amount = False
    reads_embeddings = False

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        kept = torch.arange(len(task.tokens))
        return Choice(kept, membership(kept, len(kept)), f"all {len(kept)} tokens")

    def retained(self, size: PruningSize) -> int:
        return size.total
