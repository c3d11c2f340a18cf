"""From the lines of a run to what is reported."""

from __future__ import annotations

from collections.abc import Sequence

from speechprune_cli.bench.controls import controls
from speechprune_cli.bench.line import Line
from speechprune_cli.bench.metrics import summarise
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.report.tables import Results


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
