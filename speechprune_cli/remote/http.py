"""Requests to a server: so many at once, again where it is busy or away, trouble in one line.

The standard library's client, as a question is one request and most servers are near. Proxies of
the environment are not used.
"""

from __future__ import annotations

import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import BoundedSemaphore, Event, Lock
from typing import Any, TypeVar

from speechprune_cli.errors import ServerError, UsageError, one_line
from speechprune_cli.remote.address import KEYS, TIMEOUT, Address, key, requests, timeout

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each further try
LONGEST_PAUSE = 60.0  # of those that a server asks for
GREETING = 10.0  # seconds for what any server tells at once
BUSY = (408, 409, 425, 429, 500, 502, 503, 504)
MOST_BYTES = 2**26  # of an answer

log = logging.getLogger("speechprune")
T = TypeVar("T")


class BusyError(ServerError):
    """Away, or busy: to be tried again."""

    pause: float | None = None  # seconds that the server asks for


class RefusedError(UsageError):
    """A request that this server does not take, as it says: one question fails."""

    exit_code = ServerError.exit_code


class Client:
    """A server as any number of threads may ask it."""

    def __init__(self, address: Address) -> None:
        self.address, self.timeout, self.at_once = address, timeout(), requests()
        self.losses = 0  # of connections so far: behind one, another server may answer
        self._slots, self._closed = BoundedSemaphore(self.at_once), Event()
        self._open: set[HTTPConnection] = set()
        self._lock = Lock()

    def get(self, path: str) -> Any:
        """JSON that is told at once; None where nothing is there (404). Raises ServerError."""
        with self._answer("GET", path, None, GREETING) as answer:
            return None if answer is None else self._json(path, self._read(answer))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """JSON, after further tries where need be. Raises ServerError, RefusedError."""
        return self.patiently(lambda: self._post(path, body))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Events of an answer as it is written, tried once. Raises ServerError, RefusedError."""
        body = {**body, "stream": True}
        with self._slots, self._answer("POST", path, body, self.timeout) as answer:
            if answer is None:
                raise self._missing(path)
            for line in answer:
                told = line.decode(errors="replace").strip()
                if told == "data: [DONE]":
                    return
                if not told.startswith("data:"):  # a comment that keeps the connection, or nothing
                    continue
                event = self._json(path, told.removeprefix("data:").encode())
                if isinstance(event, dict) and event.get("error"):
                    raise self._refused(500, json.dumps(event))
                yield event
            raise self._lost("the connection was lost in the answer")

    def patiently(self, ask: Callable[[], T], over: Callable[[], bool] = lambda: False) -> T:
        """What `ask` gives; where the server is busy or away it is tried again, unless `over`.

        Raises ServerError, RefusedError.
        """
        for pause in PAUSES:
            try:
                return ask()
            except BusyError as error:
                if over():
                    raise
                self._wait(error, pause)
        return ask()

    def close(self) -> None:
        """End all that is under way, whoever waits for it."""
        self._closed.set()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    if connection.sock is not None:
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def _wait(self, error: BusyError, pause: float) -> None:
        pause = pause if error.pause is None else min(error.pause, LONGEST_PAUSE)
        log.info("%s: tried again in %.1f s", error, pause)
        if self._closed.wait(pause):
            raise ServerError(f"{self.address.url}: given up") from error

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        with self._slots, self._answer("POST", path, body, self.timeout) as answer:
            if answer is None:
                raise self._missing(path)
            return self._json(path, self._read(answer))

    def _read(self, answer: HTTPResponse) -> bytes:
        """All of it. Raises BusyError where less comes than was announced."""
        content = answer.read(MOST_BYTES)
        if answer.length and len(content) < MOST_BYTES:
            raise self._lost("the connection was lost in the answer")
        return content

    @contextmanager
    def _answer(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> Iterator[HTTPResponse | None]:
        """What the server says. Raises BusyError, ServerError, RefusedError."""
        connection = self._connection(seconds)
        with self._lock:
            self._open.add(connection)
        try:
            if self._closed.is_set():
                raise ServerError(f"{self.address.url}: given up")
            answer = self._request(connection, method, path, body)
            if answer.status >= 400 and answer.status != 404:
                raise self._refused(answer.status, _told(answer), answer.headers.get("Retry-After"))
            yield None if answer.status == 404 else answer
        except TimeoutError as error:
            hint = f" (see {TIMEOUT})" if seconds == self.timeout else ""
            raise ServerError(f"{self.address.url} says nothing for {seconds:g} s{hint}") from error
        except (ssl.SSLError, socket.gaierror) as error:
            raise ServerError(f"{self.address.url} cannot be reached: {_reason(error)}") from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or one_line(error) or type(error).__name__
            raise self._lost(f"it cannot be reached: {reason}") from error
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _connection(self, seconds: float) -> HTTPConnection:
        host, port = self.address.host, self.address.port
        if self.address.secure:
            return HTTPSConnection(
                host, port, timeout=seconds, context=ssl.create_default_context()
            )
        return HTTPConnection(host, port, timeout=seconds)

    def _request(
        self, connection: HTTPConnection, method: str, path: str, body: dict[str, Any] | None
    ) -> HTTPResponse:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if secret := key(self.address):
            headers["Authorization"] = f"Bearer {secret}"
        content = None if body is None else json.dumps(body).encode()
        connection.connect()
        if self._closed.is_set():  # while it was on its way
            raise ServerError(f"{self.address.url}: given up")
        connection.request(method, self.address.path + path, content, headers)
        return connection.getresponse()

    def _refused(self, status: int, told: str, pause: str | None = None) -> Exception:
        """What an HTTP error means."""
        url, said = self.address.url, f"{status} {_message(told)}".strip()
        if status in (401, 403):
            wanted = "another key" if key(self.address) else "a key"
            return ServerError(f"{url} wants {wanted}: put it into {KEYS[0]} ({said})")
        if status in BUSY:
            away = status in (502, 503, 504)  # as told by who stands in front of it
            error = self._lost(said) if away else BusyError(f"{url}: {said}")
            error.pause = float(pause) if pause and pause.isdecimal() else None
            return error
        return RefusedError(f"{url} refuses: {said}")

    def _lost(self, reason: str) -> BusyError:
        """Who is asked next may be another server at the same address."""
        with self._lock:
            self.losses += 1
        return BusyError(f"{self.address.url}: {reason}")

    def _missing(self, path: str) -> ServerError:
        return ServerError(
            f"{self.address.url}: there is no {path}: is it an OpenAI-compatible server, and the "
            "model still served?"
        )

    def _json(self, path: str, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            shown = content[:40].decode(errors="replace")
            raise ServerError(
                f"{self.address.url}{path} is no OpenAI-compatible server: it says {shown!r}"
            ) from error


def _reason(error: OSError) -> str:
    """Without numbers and places in a library's code."""
    plain = isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER"
    return "it does not speak https" if plain else error.strerror or one_line(error)


def _told(answer: HTTPResponse) -> str:
    return answer.read(10_000).decode(errors="replace")


def _message(told: str) -> str:
    """What an error's body says, in OpenAI's format or any other, or what it passes on in it."""
    with suppress(ValueError, RecursionError):
        found = json.loads(told)
        for name in ("error", "message", "detail"):
            if isinstance(found, dict) and found.get(name):
                found = found[name]
        if isinstance(found, str) and found.startswith("{"):
            return _message(found)
        told = found if isinstance(found, str) else json.dumps(found)
    return " ".join(told.split())[:300]
