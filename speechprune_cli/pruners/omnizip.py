"""Tokens that the audio encoder attends to most (OmniZip, arXiv 2511.14582)."""

from speechprune_cli.budget import top_k
from speechprune_cli.flow import ENCODER_ATTENTION, PruningTask
from speechprune_cli.pruners.base import Choice, Pruner


class OmniZip(Pruner):
    """By the attention received in the encoder's last layer, mean over heads and queries.

    Its audio half alone: OmniZip goes on to let audio guide the pruning of video.
    """

    asks = False
    reads_embeddings = False
    requires = frozenset({ENCODER_ATTENTION})

    def score_and_keep(self, task: PruningTask) -> Choice:
        scores = task.attention.cpu()
        kept = top_k(scores, task.keep)
        return Choice(kept, scores, f"{task.keep} tokens that the encoder attends to most")
