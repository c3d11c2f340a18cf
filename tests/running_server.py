"""A real `speechprune serve` in this process, on a free port and on the user's own socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from speechprune_cli.pipeline import Session
from speechprune_cli.serving.answering import Answering
from speechprune_cli.serving.limits import Limits
from speechprune_cli.serving.pruning import Pruning
from speechprune_cli.serving.request import Served
from speechprune_cli.serving.running import Door, Serving
from speechprune_cli.serving.sockets import address, own_socket

LOOPBACK = ("127.0.0.1", "localhost")


class Running:
    """A server, and the plainest of clients."""

    def __init__(self, serving: Serving, session: Session, port: int):
        self.serving, self.session, self.port = serving, session, port
        self.url = f"http://127.0.0.1:{port}/v1"
        self.model = serving.served.model
        self.lines: list[str] = []

    def request(self, method, path, body=None, headers=()):
        """Status, headers and content of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
        told = {"Content-Type": "application/json", **dict(headers)}
        try:
            connection.request(method, path, body, told)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def complete(self, body, headers=()):
        """Status and JSON of `/v1/chat/completions`."""
        path = "/v1/chat/completions"
        status, _, content = self.request("POST", path, body, headers)
        return status, json.loads(content)

    def health(self):
        return json.loads(self.request("GET", "/health")[2])

    def counted(self, name):
        """One of the metrics."""
        lines = self.request("GET", "/metrics")[2].decode().splitlines()
        (value,) = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == name]
        return float(value)

    def wait_for(self, **counts):
        """Until `/health` says so."""
        self.wait_until(lambda: counts.items() <= self.health().items())

    def wait_until(self, holds):
        """A test that waits for ever fails by its patience."""
        for _ in range(3000):
            if holds():
                return
            time.sleep(0.01)
        raise AssertionError("it never came to that")


@contextmanager
def running(session, limits=None, key=None, path: Path | None = None, pruning=None, threads=1):
    """A server around a session; `path` is that of its socket for `--server local`."""
    limits, lines = limits or Limits(), []
    name = session.model.preset.name
    served = Served(name, pruning or Pruning(), 8, limits)
    with address("127.0.0.1", 0) as listening:
        doors = [Door(listening, key, None if key else LOOPBACK)]
        if path is None:
            yield from _run(session, limits, served, doors, lines, threads)
            return
        with own_socket(path) as own:
            yield from _run(session, limits, served, [*doors, Door(own)], lines, threads)


def _run(session, limits, served, doors, lines, threads):
    begun = threading.Event()
    say = (lines.append, lines.append)
    serving = Serving(Answering(session, limits), served, tuple(doors), *say, threads)
    port = doors[0].socket.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(serving.run(begun.set)))
    thread.start()
    assert begun.wait(60)
    server = Running(serving, session, port)
    server.lines, server.thread = lines, thread
    try:
        yield server
    finally:
        stop(server)
        thread.join(60)
        assert not thread.is_alive()


def stop(server):
    """As a signal does."""
    if server.thread.is_alive():
        server.serving.loop.call_soon_threadsafe(server.serving.stop)


def chat(model, data, question="When is the report due?", **options):
    """A request about a recording, its bytes or its base64."""
    data = b64encode(data).decode() if isinstance(data, bytes) else data
    recording = {"data": data, "format": "wav"}
    parts = [
        {"type": "text", "text": question},
        {"type": "input_audio", "input_audio": recording},
    ]
    return {"model": model, "messages": [{"role": "user", "content": parts}], **options}


def raw(port, text):
    """What comes back for bytes that need be no HTTP."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))
