"""What is profiled: a recording of some length, a prompt, an answer, and ways of pruning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from speechprune_cli.bench.grid import Condition, conditions
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.pipeline import phase1_budget, tokens_to_keep
from speechprune_cli.costs import PruningSize

if TYPE_CHECKING:
    from speechprune_cli.config import Preset

PAPER_RATES = (0.0, 0.2, 0.4, 0.6, 0.8)
LONGEST = 36_000.0
"""Ten hours, in seconds."""
FRAMES_PER_SECOND = 100
UNITS = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclass(frozen=True)
class Load:
    """What the language model reads under one condition."""

    condition: Condition
    windows: int
    """Of 30 s, that have to be encoded for it."""
    total: int
    """Audio tokens of the recording, N."""
    budget: int
    """B1."""
    kept: int
    """Audio tokens that are read."""
    length: int
    """Tokens of the prompt: audio and text."""

    @property
    def name(self) -> str:
        """Of the condition."""
        return self.condition.name

    @property
    def pruned(self) -> PruningSize:
        """What the cost of pruning follows from."""
        return PruningSize(self.total, self.budget, self.kept, min(self.total, self.budget))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A recording, a prompt and an answer, and ways of pruning. The defaults are table I's."""

    seconds: float = 30.0
    text_tokens: int = 107
    output_tokens: int = 1
    batch_size: int = 1
    rates: tuple[float, ...] = PAPER_RATES
    methods: tuple[str, ...] = ("speechprune",)
    budget: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= LONGEST:
            raise UsageError(f"--seconds {self.seconds:g}: give a length above 0, up to 10 hours")
        for rate in self.rates:
            if not 0 <= rate < 1:
                raise UsageError(f"--rate {rate:g} is outside [0, 1): 0.2 drops a fifth")

    def loads(self, preset: Preset, seconds: float | None = None) -> Iterator[Load]:
        """`full` and `original`, then every method at every rate, for a recording of `seconds`.

        Raises UsageError for an unknown method, and a recording too short for a single token.
        """
        for condition in conditions(self.methods, self.rates):
            if not condition.silence:
                yield self.load(preset, condition, seconds)

    def load(self, preset: Preset, condition: Condition, seconds: float | None = None) -> Load:
        """What one condition reads of a recording of `seconds`, by default the setting's own."""
        seconds = self.seconds if seconds is None else seconds
        total = audio_tokens(preset, seconds)
        if total == 0:
            raise UsageError(f"--seconds {seconds:g}: too short for a single audio token")
        window = window_tokens(preset)
        budget = phase1_budget(self.budget, total, window)
        first = min(window, total)
        heard = first if condition.method == "original" else total
        kept = {"full": total, "original": first}.get(condition.method)
        if kept is None:
            kept = tokens_to_keep(budget, condition.rate, None, 0.0)
        return Load(condition, -(-heard // window), total, budget, kept, kept + self.text_tokens)


def window_tokens(preset: Preset) -> int:
    """Audio tokens of one full window."""
    return round(preset.window_seconds * preset.tokens_per_second)


def audio_tokens(preset: Preset, seconds: float) -> int:
    """N of a recording: whole windows, and of the last one (F + 1) // 4 of its F mel frames.

    Qwen2-Audio's rule at 25 tokens a second, scaled to other rates.
    """
    full, rest = divmod(round(seconds * SAMPLE_RATE), round(preset.window_seconds * SAMPLE_RATE))
    frames = -(-rest * FRAMES_PER_SECOND // SAMPLE_RATE)
    last = int(frames * preset.tokens_per_second / FRAMES_PER_SECOND + 0.25)
    return full * window_tokens(preset) + last


def parse_memory(text: str) -> float:
    """`24GB` or `16 GiB` in bytes. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    units = {unit.lower(): size for unit, size in UNITS.items()}
    if found is None or found[2].lower() not in units or float(found[1]) == 0:
        raise UsageError(f"--memory {text}: give a size with its unit, such as 24GB or 16GiB")
    return float(found[1]) * units[found[2].lower()]
