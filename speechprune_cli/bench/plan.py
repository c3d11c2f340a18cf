"""What a run does, down to the last setting: saved beside its lines, and read back to resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any, Literal

from speechprune_cli.bench.grid import Condition, conditions, split_method
from speechprune_cli.bench.sample import Sample
from speechprune_cli.errors import UsageError
from speechprune_cli.pipeline import QUERIES
from speechprune_cli.pruners import PRUNERS, get_pruner

pruner_class = PRUNERS.part

Scoring = Literal["likelihood", "letter", "generate", "open"]
"""How answers to questions with options are had; `open` takes the options away."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The resolved configuration of a run."""

    benchmark: str
    methods: tuple[str, ...]
    rates: tuple[float, ...]
    data: str | None = None
    model: str = "nano"
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    offline: bool = False
    budget: int | Literal["all"] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of pruning methods; each goes to the methods that know it."""
    query: str = QUERIES[0]
    """What the audio is matched against, see `Session.prune`."""
    position: str | None = None
    scoring: Scoring = "likelihood"
    permute_options: bool = False
    max_new_tokens: int = 32
    min_seconds: float | None = None
    limit: int | None = None
    seed: int = 0
    batch_size: int = 1

    def __post_init__(self) -> None:
        for rate in self.rates:
            if not 0 <= rate < 1:
                raise UsageError(f"--rate {rate:g} is outside [0, 1): 0.2 drops a fifth")
        if self.query not in QUERIES:
            raise UsageError(f"--set query={self.query}: {' or '.join(QUERIES)}")
        known = {name for method in self.methods for name in setting_names(method)}
        if unknown := sorted(set(self.settings) - known):
            raise UsageError(f"--set {unknown[0]}: no method of this run has such a setting")
        for method in self.methods:
            get_pruner(split_method(method)[0], **self.settings_of(method))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All that every sample is asked under."""
        return conditions(self.methods, self.rates)

    def settings_of(self, method: str) -> dict[str, Any]:
        """The settings that `method` knows, its own before those of the whole run."""
        names = setting_names(method)
        shared = {key: value for key, value in self.settings.items() if key in names}
        return shared | split_method(method)[1]

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Plan:
        """The plan of a saved run. Raises UsageError where it was saved by another version."""
        names = {each.name for each in fields(cls)}
        if set(saved) != names:
            odd = ", ".join(sorted(set(saved) ^ names))
            raise UsageError(f"this run was made by another version (settings differ: {odd})")
        return cls(**{**saved, "methods": tuple(saved["methods"]), "rates": tuple(saved["rates"])})


def setting_names(method: str) -> set[str]:
    """What `--set` may name for a method. Raises UsageError for an unknown one."""
    return {each.name for each in fields(pruner_class(split_method(method)[0]))}


def long_enough(samples: Sequence[Sample], min_seconds: float) -> list[Sample]:
    """Samples longer than `min_seconds`. Raises UsageError where there is none."""
    kept = [s for s in samples if not min_seconds or _seconds(s.audio) > min_seconds]
    if not kept:
        raise UsageError(f"no recording is longer than {min_seconds:g} s: lower --min-seconds")
    return kept


def draw(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """`limit` of the samples, drawn by `seed`, in their order; all of them where it is None."""
    if limit is None or limit >= len(samples):
        return list(samples)
    return [samples[i] for i in sorted(Random(seed).sample(range(len(samples)), limit))]


def _seconds(path: Path) -> float:
    """Length by the header; infinite where there is none to read, so that it is tried."""
    import soundfile

    try:
        return soundfile.info(path).duration
    except soundfile.LibsndfileError:
        return float("inf")
