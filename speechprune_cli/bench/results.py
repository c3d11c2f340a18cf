"""From the lines of a run to what is reported, and back from the file of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from speechprune_cli.bench.controls import Control, controls
from speechprune_cli.bench.metrics import Row, summarise

if TYPE_CHECKING:
    from speechprune_cli.bench.line import Line
    from speechprune_cli.bench.plan import Plan
    from speechprune_cli.bench.sample import Benchmark, Sample


@dataclass(frozen=True)
class Results:
    """One run, or a part of it."""

    title: str
    benchmark: str
    model: str
    rows: Sequence[Row]
    controls: Sequence[Control]
    published: Mapping[str, float] = field(default_factory=dict)
    """Accuracy in percent that the paper reports, by condition."""
    n_samples: int = 0  # how many were asked
    limited: bool = False  # whether `--limit` left some out
    scoring: str = "likelihood"
    permuted: bool = False  # whether every rotation of the options was asked

    @property
    def heading(self) -> str:
        """The title, marked where it is not the whole benchmark."""
        mark = f" · LIMITED to {self.n_samples:,} samples" if self.limited else ""
        return self.title + mark

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Results:
        """From the JSON of `bench.tables`. Raises KeyError where it is not that."""
        return cls(
            title=found["name"],
            benchmark=found["benchmark"],
            model=found["model"],
            rows=[Row(**{f.name: row[f.name] for f in fields(Row)}) for row in found["rows"]],
            controls=[Control(c["name"], c["n"], c["right"]) for c in found["controls"]],
            published={
                row["condition"]: row["published"]
                for row in found["rows"]
                if row["published"] is not None
            },
            n_samples=found["samples"],
            limited=found["limited"],
            scoring=found["scoring"],
            permuted=found["permuted"],
        )


def sum_up(
    plan: Plan,
    benchmark: Benchmark,
    samples: Sequence[Sample],
    lines: Sequence[Line],
    *,
    limited: bool,
    title: str,
    hard: bool = False,
) -> list[Results]:
    """Rows of all conditions on `samples`, with the controls that need no model.

    Questions with options and open ones are no one accuracy: where there are both, each has a
    table. `hard`: see `summarise`.
    """
    kinds = {
        "questions with options": [sample for sample in samples if sample.options],
        "open questions": [sample for sample in samples if not sample.options],
    }
    return [
        Results(
            title=title if len(part) == len(samples) else f"{title}, {kind}",
            benchmark=benchmark.name,
            model=plan.model,
            rows=summarise(lines, {sample.id for sample in part}, hard=hard),
            controls=controls(part, permuted=plan.permute_options),
            published=benchmark.published,
            n_samples=len(part),
            limited=limited,
            scoring=plan.scoring,
            permuted=plan.permute_options,
        )
        for kind, part in kinds.items()
        if part
    ]
