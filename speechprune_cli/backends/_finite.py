"""NaN and infinity are refused where they come up, in words that say from which layer or seconds.

Whatever is computed from them looks like any other answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from speechprune_cli.errors import NumericError

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.flow import Audio, AudioTokens

ROWS = 8192  # tokens that are looked at at once
WIDER = {"float16": "--dtype bfloat16 or float32", "bfloat16": "--dtype float32"}


def check_tokens(lm: SpeechLM, audio: Audio, tokens: AudioTokens) -> AudioTokens:
    """The tokens. Raises NumericError, which names the seconds, where some are not finite."""
    import torch

    finite = torch.cat([rows.isfinite().all(-1).cpu() for rows in tokens.embeds.split(ROWS)])
    if tokens.attention is not None:
        finite &= tokens.attention.isfinite().cpu()
    if finite.all():
        return tokens
    wrong = (~finite).nonzero().flatten()
    start, end = float(tokens.times[wrong[0], 0]), float(tokens.times[wrong[-1], 1])
    place = f"what it makes of {audio.source} from {start:.2f} s to {end:.2f} s"
    raise NumericError(_told(lm, place))


def check_values(lm: SpeechLM, values: Tensor, place: str) -> Tensor:
    """The values of that place. Raises NumericError where some are not finite."""
    if not values.isfinite().all():
        raise NumericError(_told(lm, place))
    return values


def check_logits(lm: SpeechLM, cache: Iterable[Any], logits: Tensor) -> None:
    """Raise NumericError, which names the layer, where some of `logits` are not finite.

    `cache` has what each layer remembers, keys first. Options that a model rules out may be
    minus infinity, as long as it leaves one.
    """
    if logits.amax(-1).isfinite().all():  # NaN counts as the largest
        return
    layers = (number for number, (keys, *_) in enumerate(cache) if not keys.isfinite().all())
    first = next(layers, None)
    place = "the output of its last layer"
    if first is not None:
        place = f"its decoder from layer {first} on"
    raise NumericError(_told(lm, place))


def _told(lm: SpeechLM, place: str) -> str:
    """Weights that are damaged, or numbers that are too large for the dtype."""
    if weight := lm.checkpoint.damaged:
        return f"{weight} holds NaN or infinity: the file is damaged, fetch it again"
    dtype = str(lm.dtype).removeprefix("torch.")
    cure = WIDER.get(dtype, "another model: this one cannot compute it")
    return f"{lm.preset.name}: {place} is NaN or infinite in {dtype}: try {cure}"
