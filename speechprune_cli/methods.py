"""Which method prunes, by which settings, and how much it keeps: parsed once, here.

Three ways to say how much stays, of a recording of N tokens and a budget B1 (by default the model's
own input length): `rate`, the share of B1 that is dropped, as in the paper; a share of the whole
recording that is kept, `20%`; or a number of tokens that is kept, `150`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from speechprune_cli.costs import PruningSize
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import TRANSCRIPT
from speechprune_cli.pruners import PRUNERS
from speechprune_cli.pruners.base import Pruner

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.config import Defaults, Preset
    from speechprune_cli.flow import PruningTask, Selection

BudgetOption = int | Literal["all"] | None
"""B1: a number of tokens, the whole recording, or the model's own input length."""

PAPER = ("random", "crop", "phase1", "phase2", "speechprune")
"""What SpeechPrune (arXiv 2412.12009) compares, in its tables 2 and 3 and figure 3."""


@dataclass(frozen=True)
class Amount:
    """How much is kept: one of the three is given. Raises UsageError for impossible ones."""

    rate: float | None = None  # share of B1 that is dropped
    share: float | None = None  # share of the whole recording that is kept
    tokens: int | None = None  # k itself

    def __post_init__(self) -> None:
        if self.rate is not None and (
            isinstance(self.rate, bool) or not isinstance(self.rate, Real)
        ):
            raise UsageError(f"rate {self.rate!r}: give a number, 0.2 drops a fifth of B1")
        if self.rate is not None and not 0 <= self.rate < 1:
            raise UsageError(f"rate {self.rate:g} is outside [0, 1): 0.2 drops a fifth of B1")
        if self.share is not None and not 0 < self.share <= 1:
            raise UsageError(f"keep {100 * self.share:g}%: give more than 0% and at most 100%")
        if self.tokens is not None and self.tokens < 1:
            raise UsageError(f"keep {self.tokens}: at least one token has to stay")

    @classmethod
    def keeping(cls, what: str | int) -> Amount:
        """`20%` of the recording, or `150` tokens. Raises UsageError for anything else."""
        text = "" if isinstance(what, bool) else str(what).strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,99})?\s*%", text):
            return cls(share=float(text.rstrip("% ")) / 100)
        if re.fullmatch(r"\d{1,9}", text):
            return cls(tokens=int(text))
        raise UsageError(
            f"keep {str(what)[:9]}: give a share of the recording, 20%, or tokens, 150"
        )

    @property
    def label(self) -> str:
        """As it stands in tables: `0.2`, `20%`, `150 tokens`."""
        if self.rate is not None:
            return f"{self.rate:g}"
        return f"{100 * self.share:g}%" if self.share is not None else f"{self.tokens} tokens"

    @property
    def words(self) -> str:
        """As it was asked for: `rate 0.2`, `keep 20%`."""
        return f"keep {self.label}" if self.rate is None else f"rate {self.label}"

    def tokens_of(self, total: int, budget: int) -> int:
        """k, of `total` tokens and a budget B1: at least one, at most all."""
        if self.tokens is not None:
            return min(self.tokens, total)
        left = total * self.share if self.share is not None else budget * (1 - (self.rate or 0))
        return max(1, round(left))


def amount_of(rate: float | None, keep: str | int | None) -> Amount | None:
    """What two options come to; None where neither is given. Raises UsageError where both are."""
    if rate is not None and keep is not None:
        raise UsageError("give either a rate or how much to keep, not both")
    if rate is not None:
        return Amount(rate=rate)
    return None if keep is None else Amount.keeping(keep)


def amount_asked(rate: float | None, share: float | None, tokens: int | None) -> Amount | None:
    """The amount of which one is given; None where none is."""
    return None if (rate, share, tokens) == (None,) * 3 else Amount(rate, share, tokens)


def default_amount(defaults: Defaults) -> Amount:
    """How much a model keeps where nothing else is asked for."""
    return amount_of(None, defaults.keep) or Amount(rate=defaults.rate)


def defaults_of(preset: Preset) -> Defaults:
    """A preset's own. Raises UsageError, which names it, for settings that no method has."""
    for name, settings in preset.defaults.settings.items():
        try:
            PRUNERS.make(name, settings)
        except UsageError as error:
            raise UsageError(f"the preset {preset.name}: defaults.settings: {error}") from error
    return preset.defaults


def several(value: Any) -> tuple[Any, ...]:
    """One value alone, or all of several."""
    return (value,) if isinstance(value, str | int | float) else tuple(value)


def amounts(rates: Iterable[float], keeps: Iterable[str | int]) -> list[Amount]:
    """All of them, rates first. Raises UsageError."""
    return [*(Amount(rate=rate) for rate in rates), *map(Amount.keeping, keeps)]


Asked = tuple[tuple[str, ...], tuple[float, ...], tuple[str, ...]]
Paper = tuple[tuple[str, ...], tuple[float, ...]]


def compared(defaults: Defaults) -> Paper:
    """Methods and rates of the paper's comparisons, as it has them for the model."""
    return PAPER, defaults.paper_rates


def table_i(defaults: Defaults) -> Paper:
    """The method of the paper's table I, unpruned too, at its rates for the model."""
    return ("speechprune",), (0.0, *defaults.paper_rates)


def settled(
    methods: tuple[str, ...],
    rates: tuple[float, ...],
    keeps: tuple[str, ...],
    defaults: Defaults,
    paper: Paper | None = None,
) -> Asked:
    """Methods, rates and what to keep: as asked for, the rest as the preset has it; or `paper`.

    Raises UsageError where both are asked for.
    """
    if paper is not None:
        if methods or rates or keeps:
            raise UsageError("--paper says methods and rates: leave --method, --rate, --keep out")
        return *paper, ()
    if not rates and not keeps:
        rates, keeps = ((), (defaults.keep,)) if defaults.keep else ((defaults.rate,), ())
    return methods or (defaults.method,), rates, keeps


def pruning_size(
    total: int, input_tokens: int, budget: BudgetOption, amount: Amount
) -> PruningSize:
    """N, B1 and k of a recording of `total` tokens.

    B1 is never more than there is; where it is left to the model, it is never less than k.
    """
    number = isinstance(budget, Integral) and not isinstance(budget, bool)
    if budget not in (None, "all") and not (number and int(budget) > 0):
        raise UsageError(f"budget is {budget!r}: give a positive number of tokens, or 'all'")
    wanted = total if budget == "all" else input_tokens if budget is None else int(budget)
    allowed = min(wanted, total)
    kept = amount.tokens_of(total, allowed)
    if budget is None:
        allowed = max(allowed, kept)
    return PruningSize(total, allowed, kept, min(input_tokens, total))


@dataclass(frozen=True)
class MethodSpec:
    """A method, all settings it is told, and how much it keeps."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    amount: Amount | None = None  # None: the method settles it by itself
    own: str = ""  # settings that tell it apart from others of its name, as written: `reach=0`

    @classmethod
    def parse(
        cls,
        text: str,
        amount: Amount | None = None,
        shared: Mapping[str, Any] | None = None,
        preset: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> MethodSpec:
        """`name`, or `name:setting=value,...` for settings of its own.

        Those of `shared` that it knows are added; its own come first, and last those that the
        model's `preset` has for it, by methods' names. Raises UsageError for an unknown method,
        setting or value.
        """
        name, _, own = text.partition(":")
        known = PRUNERS.settings(name)
        settings = dict((preset or {}).get(name, {}))
        settings |= {key: value for key, value in (shared or {}).items() if key in known}
        settings |= parse_settings(own.split(",") if own else [])
        pruner = PRUNERS.make(name, settings)
        return cls(name, settings, amount if pruner.takes_amount else None, own)

    @property
    def method(self) -> str:
        """Its name, with settings of its own."""
        return f"{self.name}:{self.own}" if self.own else self.name

    @property
    def label(self) -> str:
        """As it stands in tables: `cue 0.2`."""
        return self.method if self.amount is None else f"{self.method} {self.amount.label}"

    @cached_property
    def pruner(self) -> Pruner:
        """Ready to select."""
        return PRUNERS.make(self.name, self.settings)

    def check(self, preset: Preset) -> None:
        """Raise UsageError or ModelError for what can be told before the preset's model is loaded.

        That is what its family does not give, where it says which, and what this machine lacks.
        """
        from speechprune_cli.backends import FAMILIES

        if preset.family is not None:
            self.check_family(FAMILIES.part(preset.family))
        self.pruner.check()

    def check_family(self, family: type[SpeechLM]) -> None:
        """Raise UsageError where the method needs what models of a family do not give."""
        if missing := sorted(self.pruner.requires - family.provides):
            given = family.provides
            able = ", ".join(
                each for each in PRUNERS.modules if PRUNERS.part(each).requires <= given
            )
            reader = ", or a model that reads one, as mini" if missing[0] == TRANSCRIPT else ""
            raise UsageError(
                f"{self.name} needs {missing[0]}, which {family.family} models do not give: "
                f"choose from {able}{reader}"
            )

    def select(self, task: PruningTask) -> Selection:
        """What it keeps. Raises UsageError, ModelError."""
        return replace(self.pruner.select(task), method=self.name)

    @property
    def draws(self) -> bool:
        """Whether it draws at random."""
        return "seed" in PRUNERS.settings(self.name)

    def told(self, settings: Mapping[str, Any]) -> MethodSpec:
        """With more settings. Raises UsageError for those it does not know."""
        spec = replace(self, settings={**self.settings, **settings})
        PRUNERS.make(self.name, spec.settings)
        return spec

    def seeded(self, seed: int | None) -> MethodSpec:
        """With that seed, where it draws at random and was told none."""
        if seed is None or not self.draws or "seed" in self.settings:
            return self
        return replace(self, settings={**self.settings, "seed": seed})


FULL = MethodSpec("full")  # nothing pruned
ORIGINAL = MethodSpec("original")  # the recording cut at the model's own input length


def grid(
    methods: Iterable[str],
    amounts: Sequence[Amount],
    shared: Mapping[str, Any] | None = None,
    preset: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[MethodSpec, ...]:
    """Every method at every amount, each once. Raises UsageError, also for unknown settings."""
    shared, methods = shared or {}, list(methods)
    known = {key for method in methods for key in PRUNERS.settings(method.partition(":")[0])}
    if unknown := sorted(set(shared) - known):
        raise UsageError(f"--set {unknown[0]}: no method of this run has such a setting")
    specs = [
        MethodSpec.parse(method, amount, shared, preset) for method in methods for amount in amounts
    ]
    return tuple({spec.label: spec for spec in specs}.values())


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """`["temperature=0.5", "heads=max"]` -> `{"temperature": 0.5, "heads": "max"}`."""
    settings = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals and text):
            raise UsageError(f"--set {pair}: write key=value, for example temperature=0.5")
        settings[key] = parse_value(text)
    return settings


def parse_value(text: str) -> Any:
    """A number or a truth value where it reads as one, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
