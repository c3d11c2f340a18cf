"""How a request has its recording pruned: the options of the command line, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from speechprune_cli.methods import BudgetOption, MethodSpec, amount_of, default_amount
from speechprune_cli.validation import checked

if TYPE_CHECKING:
    from speechprune_cli.config import Defaults


@dataclass(frozen=True)
class Pruning:
    """One method, and how much it keeps; what is not said is as the preset has it."""

    method: str | None = None
    keep: str | int | float | None = None
    rate: float | None = None
    budget: BudgetOption = None
    query: Literal["question", "question+choices"] | None = None
    seed: int | None = None
    set: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Pruning:
        """Raises UsageError for unknown names and values of another type."""
        return checked(cls, told, "pruning:")

    def spec(self, defaults: Defaults) -> MethodSpec:
        """The method, ready to select. Raises UsageError."""
        keep = str(self.keep) if isinstance(self.keep, float) else self.keep
        amount = amount_of(self.rate, keep) or default_amount(defaults)
        method = self.method or defaults.method
        spec = MethodSpec.parse(method, amount, preset=defaults.settings)
        return spec.told(self.set).seeded(self.seed)
