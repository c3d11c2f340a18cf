"""How long a run is going to take here, from a few prompts that are read before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from speechprune_cli.bench.conditions import Condition
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.sample import Sample, length_of
from speechprune_cli.methods import Amount, pruning_size

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.backends.shape import Shape

LENGTHS = {"cpu": (16, 128), "cuda": (64, 2048), "mps": (16, 512)}
"""Tokens of the prompts that are timed: enough for the device to be at work, few enough to wait."""
LETTERS = 4  # of a token of text, about
FRAME = 40  # tokens of a chat prompt around the question, about
WRITTEN = 4  # tokens that are written to time one


@dataclass(frozen=True)
class Pace:
    """What answering costs, in seconds."""

    prompt: float  # any prompt, however short
    token: float  # each token of it
    written: float  # each token of an answer

    @classmethod
    def of(cls, lm: SpeechLM, batch_size: int) -> Pace:
        """Timed with prompts side by side, as the run reads them; a CPU gains nothing by that."""
        rows = 1 if lm.device.type == "cpu" else batch_size
        less, more = LENGTHS[lm.device.type]
        (short, written), (long, _) = (_seconds(lm, rows, length) for length in (less, more))
        token = max(long - short, 0.0) / (more - less)
        prompt = max(short - less * token, 0.0)
        return cls(prompt / rows, token / rows, written / rows)

    def seconds(self, plan: Plan, shape: Shape, todo: Sequence[tuple[Sample, Condition]]) -> float:
        """For all that is to do, without encoding; answers as long as they may be."""
        paths = {sample.audio for sample, _ in todo}
        lengths = {path: length_of(path) for path in paths}
        return sum(
            self._asked(plan, shape, sample, condition, lengths[sample.audio])
            for sample, condition in todo
            if sample.answer and isfinite(lengths[sample.audio])
        )

    def _asked(
        self, plan: Plan, shape: Shape, sample: Sample, condition: Condition, seconds: float
    ) -> float:
        spec, total = condition.spec, shape.audio_tokens(seconds)
        size = pruning_size(total, shape.input_tokens, plan.budget, spec.amount or Amount(rate=0.0))
        unheard = condition.silence and not shape.encoder.exact  # of silence, no word is written
        words = len(" ".join([sample.question, *sample.options])) // LETTERS
        read = words + FRAME + (0 if unheard else spec.pruner.retained(size))
        free = not sample.options or plan.scoring == "generate"
        written = plan.max_new_tokens if free else 0
        orders = len(sample.options) if plan.permute_options and sample.options else 1
        return orders * (self.prompt + read * self.token + written * self.written)


def _seconds(lm: SpeechLM, rows: int, length: int) -> tuple[float, float]:
    """Of a prefill, the second one, and of a token written behind it."""
    import torch

    from speechprune_cli.backends.decoding import DecoderState
    from speechprune_cli.device import Stopwatch

    ids = torch.arange(rows * length, device=lm.device).reshape(rows, length) % 64
    places = lm.position_ids(torch.arange(length))
    places = places.expand(*places.shape[:-2], rows, length)
    with torch.no_grad():
        for _ in range(2):
            clock, state = Stopwatch(lm.device), DecoderState(lm, lm.new_cache())
            lm.head(state.read(lm.embed_rows(ids), places)[:, -1])
            prefill = clock.lap()
        for _ in range(WRITTEN):
            lm.head(state.read_on(ids[:, :1])[:, -1])
    return prefill, clock.lap() / WRITTEN
