"""How similar each audio token is to the question (eq. 4 and the mean of eq. 5 and 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechprune_cli.errors import NumericError

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_BLOCK = 8192


def token_similarity(embeds: Tensor, text: Tensor) -> Tensor:
    """Mean cosine of every audio token with the question's tokens, float32 `[N]` on the CPU.

    `embeds` `[N, D]`, `text` `[L, D]`. The mean over L cosines is the product of the unit audio
    token with the mean of the unit text tokens, so the `[N, L]` matrix of eq. 4 is never built.
    Rows are summed one by one rather than as a matrix product: equal tokens get equal scores.
    Raises NumericError for embeddings that are no numbers.
    """
    import torch
    from torch.nn.functional import normalize

    direction = normalize(text.to(embeds.device).float(), dim=-1).mean(0)
    blocks = embeds.split(TOKENS_PER_BLOCK)
    scores = torch.cat([(normalize(block.float(), dim=-1) * direction).sum(-1) for block in blocks])
    check_finite(scores)
    return scores.cpu()


def unit_vectors(embeds: Tensor) -> Tensor:
    """`embeds` `[N, D]` at length 1, in float32. Raises NumericError where they are no numbers."""
    from torch.nn.functional import normalize

    units = normalize(embeds.float(), dim=-1)
    check_finite(units)
    return units


def check_finite(values: Tensor) -> None:
    """Raise NumericError for NaN and infinity, which come out of embeddings that hold them."""
    if not values.isfinite().all():
        raise NumericError(
            "embeddings that are compared hold NaN or infinity: the model's weights are damaged, "
            "or too large for its dtype: try --dtype float32"
        )
