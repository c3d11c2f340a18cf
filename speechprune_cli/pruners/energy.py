"""The loudest tokens: dropping silence, as a voice activity detector does."""

from speechprune_cli.budget import top_k
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners.base import Choice, Pruner


class Energy(Pruner):
    """By the level of the sound under each token, whatever the question."""

    asks = False
    reads_embeddings = False

    def score_and_keep(self, task: PruningTask) -> Choice:
        loudness = task.tokens.loudness.cpu()
        kept = top_k(loudness, task.keep)
        quietest = float(loudness[kept].min())
        return Choice(kept, loudness, f"{task.keep} tokens of {quietest:.0f} dB and louder")
