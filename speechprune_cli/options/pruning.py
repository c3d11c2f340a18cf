"""Which methods prune, and how much they keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import typer

from speechprune_cli import methods
from speechprune_cli.errors import UsageError
from speechprune_cli.methods import BudgetOption, MethodSpec
from speechprune_cli.options.grouping import by_environment, panel, rare
from speechprune_cli.pruners import PRUNERS

if TYPE_CHECKING:
    from speechprune_cli.config import Defaults

K = TypeVar("K")
R = TypeVar("R")

KEEP = "How much stays: a share of the whole recording, 20%, or tokens, 150. Default: the preset's."
RATE = "As in the paper: share of the model's own input length to drop, from 0 to below 1."
METHOD = f"{', '.join(PRUNERS.names)}."
pruning = panel("Pruning")


def rate_of(text: str) -> float:
    """As the paper counts, with a hint for who means the other way round."""
    try:
        return float(text)
    except ValueError:
        reason = f"{text} is no rate, which is the share to drop, as 0.2: --keep 20% keeps a fifth"
        raise typer.BadParameter(reason) from None


@dataclass(frozen=True)
class CommonPruning:
    """What one method and a grid of them are told alike."""

    budget: str | None = rare(
        "Tokens that phase 1 leaves, or all. Default: the model's own input length.", "B1", env=True
    )
    setting: list[str] | None = rare(
        "A setting of the method, such as temperature=0.5. Repeatable.", "KEY=VALUE", "--set"
    )

    @property
    def settings(self) -> dict[str, Any]:
        """As given with `--set`."""
        return methods.parse_settings(self.setting or ())

    @property
    def b1(self) -> BudgetOption:
        """`all`, a number of tokens, or None: the model's own input length. Raises UsageError."""
        if self.budget is None:
            return None
        if self.budget == "all":
            return "all"
        if not self.budget.isdecimal() or int(self.budget) < 1:
            raise UsageError(f"--budget {self.budget}: give a positive number of tokens, or all")
        return int(self.budget)


@dataclass(frozen=True)
class MatchingOptions:
    """What a method looks for, and how it draws."""

    query: Literal["question", "question+choices"] | None = rare(
        "Matched against: question, or question+choices. Default: the method's own.", "WHAT"
    )
    seed: int | None = rare("For what is drawn at random: random, crop, t-SNE.", "N", env=True)


@dataclass(frozen=True)
class PruningOptions(MatchingOptions, CommonPruning):
    """One method, and how much it keeps."""

    method: str | None = pruning(f"{METHOD} Default: the preset's.", "NAME", env=True)
    keep: str | None = pruning(KEEP, "HOW", env=True)
    rate: float | None = pruning(RATE, "R", env=True, parser=rate_of)

    def spec(self, defaults: Defaults) -> MethodSpec:
        """What is asked for, the rest as the preset has it. Raises UsageError."""
        keep, rate = preferred(self.keep, self.rate)
        amount = methods.amount_of(rate, keep) or methods.default_amount(defaults)
        spec = MethodSpec.parse(self.method or defaults.method, amount, preset=defaults.settings)
        return spec.told(self.settings).seeded(self.seed)

    @property
    def told(self) -> dict[str, Any]:
        """What is asked for, as a server takes it. Raises UsageError."""
        keep, rate = preferred(self.keep, self.rate)
        names = ("method", "query", "seed")
        told = {name: getattr(self, name) for name in names}
        told |= {"keep": keep, "rate": rate, "budget": self.b1, "set": self.settings or None}
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class GridOptions(CommonPruning):
    """Several methods, each at several amounts."""

    method: list[str] | None = pruning(
        f"{METHOD} NAME:SETTING=VALUE,... for settings of its own. Repeatable. Default: the "
        "preset's.",
        "NAME",
        env=True,
    )
    keep: list[str] | None = pruning(f"{KEEP} Repeatable.", "HOW", env=True)
    rate: list[float] | None = pruning(f"{RATE} Repeatable.", "R", env=True, parser=rate_of)
    paper: bool = pruning("The paper's methods at the paper's rates.")

    @property
    def asked(self) -> dict[str, Any]:
        """As `evaluate` takes it."""
        asked = dict(zip(("methods", "rates", "keep"), self._asked, strict=True))
        return {**asked, "paper": self.paper}

    @property
    def _asked(self) -> methods.Asked:
        """Methods, rates, what to keep; with `--paper` the environment says nothing of them."""
        keep, rates = preferred(self.keep, self.rate)

        def said(name: str, value: list[Any] | None) -> tuple[Any, ...]:
            return () if self.paper and by_environment(name) else tuple(value or ())

        return said("method", self.method), said("rate", rates), said("keep", keep)

    def specs(self, defaults: Defaults) -> tuple[MethodSpec, ...]:
        """Every method at every amount, the rest as the preset has it; `--paper`: of table I."""
        paper = methods.table_i(defaults) if self.paper else None
        names, rates, keeps = methods.settled(*self._asked, defaults, paper)
        amounts = methods.amounts(rates, keeps)
        return methods.grid(names, amounts, self.settings, defaults.settings)


def preferred(keep: K, rate: R) -> tuple[K | None, R | None]:
    """Both; but of one from the environment and one from the command line the latter alone."""
    told = by_environment("keep"), by_environment("rate")
    if not keep or rate is None or told[0] == told[1]:
        return keep, rate
    return (None, rate) if told[0] else (keep, None)
