"""From the lines of a run to what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from speechprune_cli.bench.controls import controls
from speechprune_cli.bench.metrics import summarise
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.report.tables import Results


def sum_up(
    plan: Plan,
    benchmark: Benchmark,
    samples: Sequence[Sample],
    lines: Sequence[dict[str, Any]],
    *,
    limited: bool,
    name: str | None = None,
) -> Results:
    """Rows of all conditions on `samples`, with the controls that need no model."""
    return Results(
        title=name or benchmark.name,
        benchmark=benchmark.name,
        model=plan.model,
        rows=summarise(lines, {sample.id for sample in samples}),
        controls=controls(samples, permuted=plan.permute_options),
        published=benchmark.published,
        n_samples=len(samples),
        limited=limited,
        scoring=plan.scoring,
        permuted=plan.permute_options,
    )
