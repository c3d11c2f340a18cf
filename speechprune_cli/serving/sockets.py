"""Where a server listens: an address, and a socket of the user's own for `--server local`.

The socket lies in the user's runtime folder, readable by nobody else, and is named by the model and
all options that its answers depend on: `ask` finds the one that would answer as it would.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.atomic import locked
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.folders import cache_folder
from speechprune_cli.version import __version__

if TYPE_CHECKING:
    from speechprune_cli.config import Preset

LONGEST_PATH = 100  # bytes: systems take a few more


def socket_path(preset: Preset, told: Mapping[str, Any]) -> Path:
    """Of the server for a model, `told` how it runs."""
    identity = {
        "version": __version__,
        "preset": preset.model_dump(mode="json"),
        "told": dict(told),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "speechprune" if runtime else cache_folder("run")
    return folder / f"{digest[:16]}.sock"


def unix_socket() -> socket.socket:
    """Raises SpeechPruneError where the system has none, as Windows."""
    if not hasattr(socket, "AF_UNIX"):
        raise SpeechPruneError("this system has no Unix sockets")
    return socket.socket(socket.AF_UNIX)


@contextmanager
def own_socket(path: Path) -> Iterator[socket.socket]:
    """A socket that only this user can reach, removed at the end, one left behind by a kill too.

    Raises UsageError where another server has it, SpeechPruneError where the system refuses.
    """
    with unix_socket() as listening:
        _claim(path, listening)
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)


def _claim(path: Path, listening: socket.socket) -> None:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise SpeechPruneError(f"{path} is too long for a socket: set XDG_RUNTIME_DIR")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(path.parent, "server that starts", wait=True):
            if not answers(path):
                path.unlink(missing_ok=True)
                listening.bind(os.fspath(path))
                path.chmod(0o600)
                listening.listen()
                return
    except OSError as error:
        raise SpeechPruneError(f"cannot listen at {path}: {error.strerror or error}") from error
    raise UsageError(f"another server for the same model has {path}")


def answers(path: Path) -> bool:
    """Whether somebody listens at a socket."""
    with suppress(OSError), unix_socket() as asking:
        asking.connect(os.fspath(path))
        return True
    return False


@contextmanager
def address(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens there. Raises UsageError where that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"cannot listen at {host}, port {port}: {reason}: --port takes another"
        ) from error
    with listening:
        yield listening
