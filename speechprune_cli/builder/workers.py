"""Who speaks and measures: this process, or processes of Ray, here or on a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from speechprune_cli.builder.making import Done, Job, Maker
from speechprune_cli.builder.plan import Plan
from speechprune_cli.errors import SpeechPruneError

RETRIES = 2  # how often a job may kill the process that does it before the build gives up


def in_this_process(plan: Plan, jobs: Iterable[Job]) -> Iterator[Done]:
    """One job after the other, on one thread."""
    maker = Maker(plan)
    for job in jobs:
        yield maker.make(job)


def on_ray(plan: Plan, jobs: Iterable[Job], workers: int, address: str | None) -> Iterator[Done]:
    """`workers` jobs at a time, as they are done. Raises SpeechPruneError."""
    from speechprune_cli.cluster import connect, share

    connect(address)
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        reserved, _ = share(workers, 0, "cpu")
        remote = ray.remote(max_retries=RETRIES, **reserved)(_make)
        saved, left = plan.model_dump_json(), iter(jobs)
        running: list[ray.ObjectRef] = []
        while True:
            while len(running) < workers and (job := next(left, None)):
                running.append(remote.remote(saved, job))
            if not running:
                return
            (finished, *_), running = ray.wait(running)
            yield ray.get(finished)
    except RayTaskError as error:
        if isinstance(error.cause, SpeechPruneError):
            raise error.cause from None
        raise
    except RayError as error:
        raise SpeechPruneError(f"a worker died: {str(error).splitlines()[0]}") from error
    finally:
        ray.shutdown()


def _make(plan: str, job: Job) -> Done:
    return _maker(plan).make(job)


@lru_cache(maxsize=1)
def _maker(plan: str) -> Maker:
    """A process loads the voices once."""
    return Maker(Plan.model_validate_json(plan))
