"""Requests in the order in which they came, and the threads in which the model answers them.

A model that reads prompts itself has one; where a server reads them, several keep it busy.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from speechprune_cli.serving.refusals import FAILED, Refusal

if TYPE_CHECKING:
    from speechprune_cli.serving.limits import Limits
    from speechprune_cli.serving.request import Request

LONGEST_RETRY = 60  # seconds after which a client is told to try again, at most


@dataclass(frozen=True)
class Begun:
    """The prompt is ready: what there is to say before the answer."""

    remarks: dict[str, list[tuple[str, str]]]  # on the recording, and on the question


@dataclass(frozen=True)
class Done:
    """All of an answer: the fields of `ask --json`, and what there is to say."""

    fields: dict[str, Any]
    remarks: dict[str, list[tuple[str, str]]]


class Gone(Exception):  # noqa: N818 - it is no error of this program
    """Nobody waits for the answer any more."""


News = Begun | str | Done | BaseException
"""What becomes of a request: pieces of text between the first and the last, or an error."""


@dataclass(eq=False)
class Job:
    """A request that waits or is being answered, and whoever waits for it in the event loop."""

    request: Request
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    news: asyncio.Queue[News] = field(default_factory=asyncio.Queue)
    gone: Event = field(default_factory=Event)

    @property
    def kind(self) -> tuple[bool, int]:
        """Jobs of the same kind may be answered together."""
        return bool(self.request.choices), self.request.max_new_tokens

    @property
    def is_alone(self) -> bool:
        """Whether its answer has to come piece by piece."""
        return self.request.stream and not self.request.choices

    def tell(self, news: News) -> None:
        """From any thread."""
        self.loop.call_soon_threadsafe(self.news.put_nowait, news)

    def check(self) -> None:
        """Raise Gone where nobody waits any more."""
        if self.gone.is_set():
            raise Gone


class Line:
    """Jobs that wait, and those in work in so many threads: all is told in the event loop."""

    def __init__(
        self, answer: Callable[[Sequence[Job]], None], limits: Limits, threads: int = 1
    ) -> None:
        self._answer, self._limits, self._threads = answer, limits, threads
        self._together = limits.batch_size if threads == 1 else 1
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.stopping = False
        self._changed = asyncio.Event()
        self._pace = 1.0  # seconds a job took of late

    def join(self, job: Job) -> None:
        """Wait for an answer. Raises Refusal where too many do, and once the server stops."""
        if self.stopping:
            raise stopping()
        if len(self.waiting) >= self._limits.queue:
            wait = math.ceil(min(max(self._pace * len(self.waiting), 1), LONGEST_RETRY))
            raise busy(f"the queue of {self._limits.queue} requests is full", wait)
        self.waiting.append(job)
        self._changed.set()

    def leave(self, job: Job) -> None:
        """Nobody waits for this one: it is not begun, or ends at its next token."""
        job.gone.set()
        if job in self.waiting:
            self.waiting.remove(job)

    def stop(self) -> None:
        """Begin nothing more: what waits is refused, what is in work is finished."""
        self.stopping = True
        for job in self.waiting:
            job.tell(stopping())
        self.waiting.clear()
        self._changed.set()

    def abandon(self) -> None:
        """Let what is in work end at its next token too."""
        for job in self.running:
            job.gone.set()
            job.tell(stopping())

    async def serve(self) -> None:
        """Have jobs answered until the server stops."""
        free = asyncio.Semaphore(self._threads)
        with ThreadPoolExecutor(self._threads, "model") as threads:
            async with asyncio.TaskGroup() as works:
                while not self.stopping:
                    await free.acquire()
                    while not (self.waiting or self.stopping):
                        self._changed.clear()
                        await self._changed.wait()
                    if self.waiting:
                        done = works.create_task(self._work(threads, self._take()))
                        done.add_done_callback(lambda _: free.release())

    async def _work(self, threads: ThreadPoolExecutor, jobs: list[Job]) -> None:
        begun = time.monotonic()
        done = threads.submit(self._answer, jobs)
        await asyncio.wait([asyncio.wrap_future(done)])
        self._pace = (time.monotonic() - begun) / len(jobs) / self._threads
        if error := done.exception():
            for job in jobs:
                job.tell(error)
        self.running = [job for job in self.running if job not in jobs]

    def _take(self) -> list[Job]:
        """The one that came first, and those of its kind where one thread answers all."""
        first = self.waiting[0]
        alike = [job for job in self.waiting if job.kind == first.kind and not job.is_alone]
        taken = [first] if first.is_alone else alike[: self._together]
        self.waiting = [job for job in self.waiting if job not in taken]
        self.running = [*self.running, *taken]
        return taken


def busy(reason: str, seconds: int) -> Refusal:
    """A refusal for now."""
    again = f"the server is busy, {reason}: try again in {seconds} s"
    return Refusal(429, again, None, "busy", "rate_limit_error", seconds)


def stopping() -> Refusal:
    """A refusal by a server that ends."""
    return Refusal(503, "the server is stopping", None, "stopping", FAILED, 1)
