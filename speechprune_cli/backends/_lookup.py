"""Which word an embedding is of: for decoders that look words up once more, layer by layer.

Prompts are embeddings. transformers finds the words again by comparing each with all of them; here
a hash of their bits is looked up first, so that one comparison is left.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 8192  # hashed at once: their bits take eight bytes for two


class Lookup:
    """Hashes of all word embeddings, sorted."""

    def __init__(self, embed: Callable[[Tensor], Tensor], count: int, device: torch.device) -> None:
        self.embed = embed
        ids = torch.arange(count, device=device)
        with torch.no_grad():
            hashes = torch.cat([hashed(embed(some)) for some in ids.split(ROWS)])
        self.hashes, self.ids = hashes.sort()

    def find(self, embeds: Tensor, otherwise: int) -> Tensor:
        """Ids `[...]` of `embeds` `[..., D]`; `otherwise` where one is no word's."""
        rows = embeds.flatten(0, -2)
        hashes = torch.cat([hashed(some) for some in rows.split(ROWS)])
        at = torch.searchsorted(self.hashes, hashes).clamp(max=len(self.hashes) - 1)
        ids = self.ids[at]
        found = torch.where((self.embed(ids) == rows).all(-1), ids, otherwise)
        return found.view(embeds.shape[:-1])


def hashed(rows: Tensor) -> Tensor:
    """A number for the bits of each row, int64 `[n]` of `[n, D]`: a product with chance."""
    bits = rows.contiguous().view(torch.int16).long()
    chance = torch.Generator().manual_seed(0)
    factors = torch.randint(2**62, bits.shape[-1:], generator=chance).to(bits.device)
    return (bits * factors).sum(-1)
