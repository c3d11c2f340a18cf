"""Which methods prune, and how much they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from speechprune_cli.errors import UsageError
from speechprune_cli.methods import (
    PAPER_METHODS,
    PAPER_RATES,
    Amount,
    BudgetOption,
    MethodSpec,
    amount_of,
    default_amount,
    grid,
    parse_settings,
)
from speechprune_cli.options.grouping import on_command_line, pruning_option, rare_option
from speechprune_cli.pruners import PRUNERS

if TYPE_CHECKING:
    from speechprune_cli.config import Defaults

KEEP = "How much stays: a share of the whole recording, 20%, or tokens, 150. Default: the preset's."
RATE = "As in the paper: share of the model's own input length to drop, from 0 to below 1."
METHOD = f"{', '.join(PRUNERS.names)}."


@dataclass(frozen=True)
class CommonPruning:
    """What one method and a grid of them are told alike."""

    budget: Annotated[
        str | None,
        rare_option(
            envvar="SPEECHPRUNE_BUDGET",
            metavar="B1",
            help="Tokens that phase 1 leaves, or all. Default: the model's own input length.",
        ),
    ] = None
    query: Annotated[
        Literal["question", "question+choices"],
        rare_option(metavar="WHAT", help="Matched against: question, or question+choices."),
    ] = "question"
    setting: Annotated[
        list[str] | None,
        rare_option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the method, such as temperature=0.5. Repeatable.",
        ),
    ] = None
    seed: Annotated[
        int | None,
        rare_option(
            envvar="SPEECHPRUNE_SEED",
            metavar="N",
            help="For what is drawn at random: random, crop, t-SNE.",
        ),
    ] = None

    @property
    def settings(self) -> dict[str, Any]:
        """As given with `--set`."""
        return parse_settings(self.setting or ())

    @property
    def b1(self) -> BudgetOption:
        """`--budget` as a number. Raises UsageError."""
        return parse_budget(self.budget)


@dataclass(frozen=True)
class PruningOptions(CommonPruning):
    """One method, and how much it keeps."""

    method: Annotated[
        str | None,
        pruning_option(
            envvar="SPEECHPRUNE_METHOD", metavar="NAME", help=f"{METHOD} Default: the preset's."
        ),
    ] = None
    keep: Annotated[
        str | None, pruning_option(envvar="SPEECHPRUNE_KEEP", metavar="HOW", help=KEEP)
    ] = None
    rate: Annotated[
        float | None, pruning_option(envvar="SPEECHPRUNE_RATE", metavar="R", help=RATE)
    ] = None

    def spec(self, defaults: Defaults) -> MethodSpec:
        """What is asked for, the rest as the preset has it. Raises UsageError."""
        keep, rate = self.keep, self.rate
        if on_command_line("keep") and not on_command_line("rate"):
            rate = None
        elif on_command_line("rate") and not on_command_line("keep"):
            keep = None
        amount = amount_of(rate, keep) or default_amount(defaults)
        spec = MethodSpec.parse(self.method or defaults.method, amount)
        return spec.told(self.settings).seeded(self.seed)


@dataclass(frozen=True)
class GridOptions(CommonPruning):
    """Several methods, each at several amounts."""

    method: Annotated[
        list[str] | None,
        pruning_option(
            "--method",
            envvar="SPEECHPRUNE_METHOD",
            metavar="NAME",
            help=f"{METHOD} NAME:SETTING=VALUE,... for settings of its own. Repeatable. Default: "
            "the preset's.",
        ),
    ] = None
    keep: Annotated[
        list[str] | None,
        pruning_option(
            "--keep", envvar="SPEECHPRUNE_KEEP", metavar="HOW", help=f"{KEEP} Repeatable."
        ),
    ] = None
    rate: Annotated[
        list[float] | None,
        pruning_option(
            "--rate", envvar="SPEECHPRUNE_RATE", metavar="R", help=f"{RATE} Repeatable."
        ),
    ] = None
    paper: Annotated[
        bool,
        pruning_option("--paper", metavar="", help="The paper's methods at the paper's rates."),
    ] = False

    @property
    def amounts(self) -> list[Amount]:
        """All that are asked for."""
        rates = [Amount(rate=rate) for rate in self.rate or ()]
        return [*rates, *(Amount.keeping(keep) for keep in self.keep or ())]

    def specs(
        self,
        defaults: Defaults,
        methods: Sequence[str] = PAPER_METHODS,
        rates: Sequence[float] = PAPER_RATES,
    ) -> tuple[MethodSpec, ...]:
        """What is asked for; with `--paper` the paper's `methods` at its `rates`."""
        amounts, asked = self.amounts, list(self.method or ())
        if self.paper and (amounts or asked):
            raise UsageError("--paper says methods and rates: leave --method, --rate, --keep out")
        if self.paper:
            amounts, asked = [Amount(rate=rate) for rate in rates], list(methods)
        return grid(
            asked or [defaults.method], amounts or [default_amount(defaults)], self.settings
        )


def parse_budget(text: str | None) -> BudgetOption:
    """`all`, a positive number of tokens, or None for the model's own input length."""
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--budget {text}: give a positive number of tokens, or all")
    return int(text)
