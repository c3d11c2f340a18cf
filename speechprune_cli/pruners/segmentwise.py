"""Of every segment the tokens that the encoder attends to most (arXiv 2511.14293)."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from speechprune_cli.budget import frame_quotas, top_per_frame
from speechprune_cli.flow import ENCODER_ATTENTION, PruningTask
from speechprune_cli.pruners._segments import equal_segments
from speechprune_cli.pruners.base import Choice, Pruner


@dataclass(frozen=True)
class Segmentwise(Pruner):
    """S equal segments keep K/S each; what the paper's floor loses goes to the first ones."""

    asks = False
    reads_embeddings = False
    requires = frozenset({ENCODER_ATTENTION})
    seconds: Annotated[float, Interval(gt=0, lt=1e6)] = 3.0  # of a segment: ten to a window of 30 s

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        scores = task.attention.cpu()
        segments = equal_segments(len(scores), max(1.0, self.seconds * task.tokens.per_second))
        sizes = segments.bincount()
        quotas = frame_quotas(torch.zeros(len(sizes)), sizes, task.keep)
        kept = top_per_frame(scores, segments, quotas)
        reason = f"{task.keep} tokens, about {task.keep / len(sizes):.3g} of each segment"
        return Choice(kept, scores, reason)
