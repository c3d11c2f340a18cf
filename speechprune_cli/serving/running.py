"""A server from its start to a signal that ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn

from speechprune_cli.serving.answering import Answering
from speechprune_cli.serving.app import Service
from speechprune_cli.serving.front import App, Front
from speechprune_cli.serving.request import Served

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Door:
    """A socket, and who may come in through it."""

    socket: socket.socket
    key: str | None = None
    hosts: tuple[str, ...] | None = None  # names by which it may be called; None: any


class Listener(uvicorn.Server):
    """One of several in a process, which itself takes the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


@dataclass
class Serving:
    """A session behind some doors."""

    answering: Answering
    served: Served
    doors: tuple[Door, ...]
    log: Callable[[str], None]
    warn: Callable[[str], None]
    threads: int = 1  # of one model one, of a server that reads its prompts several

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Answer until a signal, or `stop`: what is in work is finished; a second one ends it."""
        self.service = Service(self.answering, self.served, self.warn, self.threads)
        self.listeners = [self._listener(door) for door in self.doors]
        self.loop = asyncio.get_running_loop()
        doors = zip(self.listeners, self.doors, strict=True)
        with _signals(lambda: self.loop.call_soon_threadsafe(self.stop)):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.service.line.serve())
                for listener, door in doors:
                    tasks.create_task(listener.serve(sockets=[door.socket]))
                ready()

    def stop(self) -> None:
        """Take nothing more and finish what is in work; the second time, not even that."""
        line, again = self.service.line, self.service.line.stopping
        line.stop()
        if line.running and not again:
            self.log(f"requests in work: {len(line.running)}; a second signal ends them too")
        if again:
            line.abandon()
        for listener in self.listeners:
            listener.should_exit, listener.force_exit = True, again

    def _listener(self, door: Door) -> Listener:
        service = self.service
        front: App = Front(service.app, door.key, self.log, service.seen, door.hosts)
        logging.getLogger("uvicorn").handlers = logging.getLogger("speechprune").handlers
        return Listener(
            uvicorn.Config(
                front,
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=30,
            )
        )


@contextmanager
def _signals(stop: Callable[[], object]) -> Iterator[None]:
    """Have a signal stop the server; outside of the main thread there is none."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        stop()

    try:
        before = {each: signal.signal(each, handle) for each in SIGNALS}
    except ValueError:  # in another thread
        before = {}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
