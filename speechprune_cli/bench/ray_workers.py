"""Answers a run's jobs on workers of Ray, a loaded model each, on this machine or on a cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from speechprune_cli.bench.conditions import Condition
from speechprune_cli.bench.jobs import Job
from speechprune_cli.bench.line import Line
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.runner import Runner
from speechprune_cli.bench.sample import Sample
from speechprune_cli.cluster import connect, share
from speechprune_cli.errors import ModelError, SpeechPruneError

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

IN_FLIGHT = 2  # jobs that a worker holds: it never waits for one, and few are decoded early
DEATHS = 3  # how many workers one job may kill


class Worker:
    """What runs in each of Ray's processes."""

    def start(self, plan: Plan, arguments: dict[str, Any], threads: int) -> dict[str, Any]:
        """Load the model, and describe what it runs on. Raises SpeechPruneError."""
        import torch

        from speechprune_cli.bench.environment import describe_environment
        from speechprune_cli.pipeline import load

        plan.check(arguments["model"])
        torch.set_num_threads(threads)
        self.runner = Runner(load(**arguments), plan)
        return describe_environment(self.runner.session)

    def doubts(self, samples: Sequence[Sample]) -> Sequence[str]:
        """As of a `Runner`."""
        return self.runner.doubts(samples)

    def answer(self, job: Job) -> list[Line]:
        """Lines of a whole job. Raises ModelError."""
        return list(self.runner.answer_job(job))


@dataclass
class Assignment:
    """A job, and how many workers died of it."""

    job: Job
    deaths: int = 0


@dataclass
class WorkerHandle:
    """A worker as the driver sees it, and what it has to do, in that order (None: to start)."""

    actor: ActorHandle
    pending: deque[tuple[ObjectRef, Assignment | None]]

    @property
    def free(self) -> bool:
        """Whether it may be given a task: never before it has started."""
        return len(self.pending) < IN_FLIGHT and all(task for _, task in self.pending)


class RayWorkers:
    """Hands jobs to workers; what a dead one had to do is done by the next that is free."""

    def __init__(self, plan: Plan, start: Callable[[], WorkerHandle], count: int) -> None:
        self.plan, self._start = plan, start
        self._handles = [start() for _ in range(count)]
        self._again: deque[Assignment] = deque()
        self._described: dict[str, Any] = {}
        self._failed_starts = 0

    def environment(self) -> dict[str, Any]:
        """What the first worker to start runs on. Raises SpeechPruneError where none can."""
        while not self._described:
            list(self._collect())
        return self._described

    def answer(self, jobs: Iterable[Job]) -> Generator[Line]:
        """Lines of all jobs, as workers finish them. Raises SpeechPruneError."""
        fresh = map(Assignment, jobs)
        while True:
            free = [handle for handle in self._handles if handle.free]
            task = (self._again.popleft() if self._again else next(fresh, None)) if free else None
            if task:
                handle = min(free, key=lambda handle: len(handle.pending))
                handle.pending.append((handle.actor.answer.remote(task.job), task))
            elif free and not any(task for handle in self._handles for _, task in handle.pending):
                return
            else:
                yield from self._collect()

    def doubts(self, samples: Sequence[Sample]) -> Sequence[str]:
        """By the first worker that has started; none where it is dead by now."""
        import ray
        from ray.exceptions import RayError

        self.environment()
        try:
            idle = next(handle for handle in self._handles if not handle.pending)
            return list(ray.get(idle.actor.doubts.remote(samples)))
        except (RayError, StopIteration):
            return ()

    def expected_seconds(self, _todo: Sequence[tuple[Sample, Condition]]) -> None:
        """Not known before all have started: some may come late, or never."""

    def _collect(self) -> Iterator[Line]:
        """Wait until any worker has something done, or is dead."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        first = {handle.pending[0][0]: handle for handle in self._handles if handle.pending}
        (done, *_), _ = ray.wait(list(first))
        try:
            result = ray.get(done)
        except RayTaskError as error:
            if isinstance(error.cause, SpeechPruneError):
                raise error.cause from None
            raise
        except RayError as error:
            yield from self._replace(first[done], str(error).splitlines()[0])
            return
        _, task = first[done].pending.popleft()
        if task:
            yield from result
        else:
            self._described, self._failed_starts = self._described or result, 0

    def _replace(self, handle: WorkerHandle, reason: str) -> Iterator[Line]:
        """Blame what a dead worker was at, and nothing else that it had to do."""
        import ray

        ray.kill(handle.actor)
        self._handles[self._handles.index(handle)] = self._start()
        blamed, *others = [task for _, task in handle.pending]
        self._again.extendleft(task for task in others if task)
        if not blamed:
            self._failed_starts += 1
            if self._failed_starts == DEATHS:
                raise ModelError(f"workers die as they load {self.plan.model}: {reason}")
            return
        blamed.deaths += 1
        if blamed.deaths < DEATHS:
            self._again.append(blamed)
            return
        reason = f"{DEATHS} workers died of it: {reason}"
        for recording in blamed.job:
            yield from recording.failures(self.plan.conditions, reason)


@contextmanager
def ray_workers(
    plan: Plan, arguments: dict[str, Any], workers: int, address: str | None, gpus: float | None
) -> Iterator[RayWorkers]:
    """Workers that hold the plan's model each, loaded with `arguments`, on `gpus` GPUs each.

    Without an `address`, a Ray of our own is started on this machine. Raises UsageError.
    """
    from speechprune_cli.config import resolve_model

    preset = resolve_model(plan.model)
    model = preset.source if os.path.isabs(preset.source) else plan.model  # noqa: PTH117
    connect(address)
    import ray

    try:
        options, threads = share(workers, gpus, plan.device)
        remote: Any = ray.remote(**options)(Worker)

        def start_worker() -> WorkerHandle:
            actor = remote.remote()
            started = actor.start.remote(plan, {"model": model, **arguments}, threads)
            return WorkerHandle(actor, deque([(started, None)]))

        yield RayWorkers(plan, start_worker, workers)
    finally:
        ray.shutdown()
