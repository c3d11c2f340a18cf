"""Who answers: this process, or worker processes on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from speechprune_cli.bench.plan import Plan

if TYPE_CHECKING:
    from speechprune_cli.bench.jobs import Workers


@dataclass(frozen=True)
class WorkerPool:
    """How many processes hold a model each, and where."""

    workers: int = 1
    ray: str | None = None  # address of a Ray cluster, or `auto`
    gpus: float | None = None  # GPUs for each worker; fractions share one
    cache: bool = True  # whether encoded recordings are kept on disk

    @contextmanager
    def load(
        self, plan: Plan, on_note: Callable[[str], None]
    ) -> Iterator[tuple[Workers, dict[str, Any]]]:
        """The workers and what they run on. Raises UsageError, ModelError, OutOfMemoryError."""
        names = ("revision", "device", "dtype", "quantize", "offline", "language", "server")
        arguments = {"cache": self.cache, **{name: getattr(plan, name) for name in names}}
        if self.workers > 1 or self.ray is not None:
            from speechprune_cli.bench.ray_workers import ray_workers

            with ray_workers(plan, arguments, self.workers, self.ray, self.gpus) as workers:
                yield workers, workers.environment()
            return
        from speechprune_cli.bench.environment import describe_environment
        from speechprune_cli.bench.runner import Runner
        from speechprune_cli.pipeline import load

        plan.check(plan.model)
        session = load(plan.model, **arguments)
        for decision in session.decisions:
            on_note(decision)
        yield Runner(session, plan), describe_environment(session)
