"""The side of `ask --server local`: a recording's bytes through the user's own socket."""

from __future__ import annotations

import json
import logging
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from time import sleep
from typing import Any

from speechprune_cli.errors import AudioError, ServerError, UsageError, one_line
from speechprune_cli.serving.limits import Limits
from speechprune_cli.serving.refusals import error_of
from speechprune_cli.serving.sockets import unix_socket

log = logging.getLogger("speechprune")

TRIES = 5  # while it is busy
Say = Callable[[Any, Any], None]  # told of remarks on the recording, and on the question


class Connection(HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        """Raises OSError, also where the socket is another user's."""
        self.sock = unix_socket()
        if self.path.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.path} belongs to another user")
        self.sock.connect(os.fspath(self.path))


@dataclass
class Local:
    """A server that runs here, and a recording that it is asked about."""

    path: Path  # of the socket
    model: str
    name: str  # of the model's preset
    source: str  # of the recording: a path, or `-`
    track: int | None
    pruning: dict[str, Any]
    told: bool = field(default=False, init=False)  # whether what is said of the recording was

    def __post_init__(self) -> None:
        """Raises ServerError where no server listens, AudioError where there is no recording."""
        self._connected().close()
        self.data = b64encode(_content(self.source)).decode()

    def check(self, question: str, choices: Sequence[str]) -> None:
        """Raise UsageError for what no server takes."""
        if reason := Limits().too_long(question, choices):
            raise UsageError(f"{reason} by --server local")

    def ask(
        self, question: str, on_text: Callable[[str], None], say: Say, **options: Any
    ) -> dict[str, Any]:
        """The fields of `ask --json`; `on_text` gets the answer, `say` the rest, as they come.

        Raises what `ask` does in one process, ServerError where the server fails.
        """
        recording = {"data": self.data, "name": self.source}
        content = [
            {"type": "text", "text": question},
            {"type": "input_audio", "input_audio": recording},
        ]
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": content}],
            "pruning": self.pruning,
            "track": self.track,
            "stream": True,
            "details": True,
            **options,
        }
        for chunk in self._chunks(json.dumps(body).encode()):
            own = chunk.get("speechprune", {})
            if "remarks" in own:
                self._say(own["remarks"], say)
            elif own:
                return {name: value for name, value in own.items() if name != "warnings"}
            elif not options.get("choices"):
                on_text(chunk["choices"][0]["delta"]["content"])
        raise ServerError("the server ended before its answer did")

    def _say(self, remarks: dict[str, Any], say: Say) -> None:
        """What concerns the recording is said once."""
        say([] if self.told else remarks["recording"], remarks["question"])
        self.told = True

    def _chunks(self, body: bytes) -> Iterator[dict[str, Any]]:
        """What the server sends. Raises what its errors say."""
        try:
            with self._answer(body) as answer:
                if answer.status != 200:
                    raise error_of(answer.status, json.loads(answer.read())["error"])
                for chunk in _events(answer):
                    if "error" in chunk:
                        raise error_of(500, chunk["error"])
                    yield chunk
        except (OSError, HTTPException, ValueError) as error:
            raise ServerError(f"the server failed: {one_line(error) or 'it is gone'}") from error

    @contextmanager
    def _answer(self, body: bytes) -> Iterator[HTTPResponse]:
        """To a request; a server that is busy is asked again when it says."""
        for left in reversed(range(TRIES)):
            with closing(self._connected()) as connection:
                told = {"Content-Type": "application/json"}
                connection.request("POST", "/v1/chat/completions", body, told)
                answer = connection.getresponse()
                pause = answer.headers.get("Retry-After", "")
                busy = answer.status == HTTPStatus.TOO_MANY_REQUESTS and pause.isdecimal()
                if not (busy and left):
                    yield answer
                    return
            log.info("the server is busy: tried again in %s s", pause)
            sleep(int(pause))

    def _connected(self) -> Connection:
        """Raises ServerError where no server for this model runs."""
        connection = Connection(self.path)
        try:
            connection.connect()
        except OSError as error:
            raise ServerError(
                "no server for this model and these options runs here: start speechprune serve "
                f"--model {self.model}, with this command's --device, --dtype, --quantize, "
                "--language and cache folder"
            ) from error
        return connection


def _events(answer: HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in answer:
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            yield json.loads(data)


def _content(source: str) -> bytes:
    """Of the recording's file. Raises AudioError."""
    label = "standard input" if source == "-" else source
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except IsADirectoryError:
        raise AudioError(f"{label}: is a folder, not a recording") from None
    except FileNotFoundError:
        raise AudioError(f"{label}: there is no such file") from None
    except OSError as error:
        raise AudioError(f"{label}: cannot be read: {error.strerror or error}") from error
    if not content:
        raise AudioError(f"{label}: is empty (0 bytes)")
    return content
