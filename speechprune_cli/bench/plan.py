"""What a run does, down to the last setting: saved beside its lines, and read back to resume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, Literal, get_args

from speechprune_cli.bench.conditions import REFERENCES, Condition
from speechprune_cli.bench.sample import Sample, length_of
from speechprune_cli.errors import UsageError
from speechprune_cli.methods import (
    Amount,
    BudgetOption,
    amounts,
    compared,
    defaults_of,
    grid,
    pruning_size,
    settled,
    several,
)
from speechprune_cli.pruners.base import check_query
from speechprune_cli.remote.address import Address

if TYPE_CHECKING:
    from speechprune_cli.config import Preset

Scoring = Literal["likelihood", "letter", "generate", "open"]
"""How answers to questions with options are had; `open` takes the options away."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The resolved configuration of a run. Raises UsageError where it makes no sense."""

    benchmark: str
    methods: tuple[str, ...]  # each `name`, or `name:setting=value,...` for settings of its own
    rates: tuple[float, ...] = ()
    keeps: tuple[str, ...] = ()  # more amounts: `20%` of the recording, `150` tokens
    data: str | None = None
    model: str = "nano"
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    offline: bool = False
    language: str | None = None  # what is spoken, for models that write transcripts
    server: str | None = None  # who reads the prompts; None: the model itself
    budget: BudgetOption = None
    settings: dict[str, Any] = field(default_factory=dict)  # each for the methods that know it
    preset_settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # by method
    query: str | None = None  # what the audio is matched against, see `Session.prune`
    position: str | None = None
    scoring: Scoring = "likelihood"
    permute_options: bool = False
    max_new_tokens: int = 32
    min_seconds: float | None = None
    limit: int | None = None
    seed: int = 0
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.query is not None:
            check_query(self.query)
        if self.scoring not in get_args(Scoring):
            raise UsageError(f"scoring is {self.scoring!r}: {' or '.join(get_args(Scoring))}")
        pruning_size(1, 1, self.budget, Amount(rate=0.0))
        for name in ("batch_size", "max_new_tokens", "limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"{name} {value}: give at least 1")
        if self.server is not None:
            Address.parse(self.server)  # which may hold a secret: no run is begun with it
        _ = self.conditions

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """All that every sample is asked under: the references first, each condition once."""
        asked = amounts(self.rates, self.keeps)
        specs = grid(self.methods, asked, self.settings, self.preset_settings)
        return tuple({each.name: each for each in (*REFERENCES, *map(Condition, specs))}.values())

    def check(self, model: str) -> None:
        """What `MethodSpec.check` raises for the plan's model, which is here under that name."""
        from speechprune_cli.config import resolve_model

        preset = resolve_model(model)
        for condition in self.conditions:
            condition.spec.check(preset)
        if self.server is not None:
            self._check_served(preset)

    def _check_served(self, preset: Preset) -> None:
        """Raise UsageError for what no server can be sent."""
        from speechprune_cli.config import TRANSCRIPT

        if (position := self.position or preset.defaults.position) != "repacked":
            raise UsageError(f"--position {position}: a server counts the tokens it is sent")
        merging = [each.spec.name for each in self.conditions if each.spec.pruner.merges]
        if merging and preset.family == TRANSCRIPT:
            raise UsageError(
                f"{merging[0]} averages tokens, which no longer are words that a server could be "
                "sent: choose another"
            )

    @classmethod
    def resolve(
        cls,
        benchmark: str,
        *,
        model: str = "nano",
        methods: str | Iterable[str] = (),
        rates: float | Iterable[float] = (),
        keep: str | int | Iterable[str | int] = (),
        paper: bool = False,
        **others: Any,
    ) -> Plan:
        """A plan that no default can change any more; `others` are further fields.

        What is left out of methods and amounts is as the model's preset has it; `paper` takes
        those of SpeechPrune's tables. Raises UsageError.
        """
        from speechprune_cli.config import resolve_model

        defaults = defaults_of(resolve_model(model))
        asked = several(methods), several(rates), tuple(map(str, several(keep)))
        methods, rates, keeps = settled(*asked, defaults, compared(defaults) if paper else None)
        return cls(
            benchmark=benchmark,
            model=model,
            methods=methods,
            rates=rates,
            keeps=keeps,
            preset_settings=defaults.settings,
            **others,
        )

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Plan:
        """The plan that `asdict` made plain. Raises UsageError where another version did."""
        names = {each.name for each in fields(cls)}
        if set(saved) != names:
            odd = ", ".join(sorted(set(saved) ^ names))
            raise UsageError(f"this run was made by another version (settings differ: {odd})")
        lists = {name: tuple(saved[name]) for name in ("methods", "rates", "keeps")}
        return cls(**{**saved, **lists})


def long_enough(samples: Sequence[Sample], min_seconds: float) -> list[Sample]:
    """Samples longer than `min_seconds`. Raises UsageError where there is none."""
    kept = [s for s in samples if not min_seconds or length_of(s.audio) > min_seconds]
    if not kept:
        raise UsageError(f"no recording is longer than {min_seconds:g} s: lower --min-seconds")
    return kept


def draw(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """`limit` of the samples, drawn by `seed`, in their order; all of them where it is None."""
    if limit is None or limit >= len(samples):
        return list(samples)
    return [samples[i] for i in sorted(Random(seed).sample(range(len(samples)), limit))]
