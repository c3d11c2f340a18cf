"""Where a server listens, what it takes, and who may ask it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from speechprune_cli.errors import UsageError
from speechprune_cli.options.grouping import answering, panel, rare
from speechprune_cli.serving.limits import Limits

KEY_VARIABLE = "SPEECHPRUNE_SERVE_KEY"
LIMITS = Limits()
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
listening, bounding = panel("Listening"), panel("Limits")


@dataclass(frozen=True)
class ServingOptions:
    """Where a server listens, what it takes, and who may ask it."""

    host: str = listening(
        "Address to listen at; beyond this machine a key is needed.", "HOST", default="127.0.0.1"
    )
    port: int = listening("0 takes a free one.", "N", default=8000, min=0, max=65535)
    key_file: Path | None = listening(
        f"A file whose first line clients have to send as their key. Default: {KEY_VARIABLE}.",
        "FILE",
    )
    max_new_tokens: int = answering(
        "Longest answer where a request does not say.", "N", default=64, min=1, env=True
    )
    batch_size: int = bounding(
        "Prompts read together.", "N", default=LIMITS.batch_size, min=1, env=True
    )
    queue: int = bounding(
        "Requests that may wait; others get a 429.", "N", default=LIMITS.queue, min=1
    )
    max_megabytes: int = bounding(
        "Largest recording, as a file.", "MB", default=LIMITS.megabytes, min=1
    )
    max_seconds: float = bounding("Longest recording.", "S", default=LIMITS.seconds, min=1)
    timeout: float = bounding(
        "For an answer, waiting included.", "S", default=LIMITS.timeout, min=1
    )
    remember: int = rare(
        "Encoded recordings held in memory, beside those on the disk.",
        "MB",
        default=LIMITS.remembered_megabytes,
        min=0,
    )

    @property
    def limits(self) -> Limits:
        """What a server takes."""
        return Limits(
            queue=self.queue,
            batch_size=self.batch_size,
            megabytes=self.max_megabytes,
            seconds=self.max_seconds,
            timeout=self.timeout,
            new_tokens=max(self.max_new_tokens, LIMITS.new_tokens),
            remembered_megabytes=self.remember,
        )

    @property
    def key(self) -> str | None:
        """What clients have to send; None: nothing. Raises UsageError, also where one is needed."""
        key = os.environ.get(KEY_VARIABLE)
        key = key if key is None else key.strip()
        if self.key_file is not None:
            key = _first_line(self.key_file)
        if key is not None and (not key or not key.isprintable()):
            raise UsageError(
                f"the key of {self.key_file or KEY_VARIABLE} is empty or no line of text"
            )
        if key is None and not self.is_loopback:
            needed = f"set {KEY_VARIABLE} or give --key-file"
            raise UsageError(f"--host {self.host} is reached from other machines: {needed}")
        return key

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """Names that requests may call the server by; None: any.

        Without a key those of this machine alone: a page in a browser may know others.
        """
        return (*LOOPBACK, self.shown_host) if self.key is None else None

    @property
    def shown_host(self) -> str:
        """As it stands in an address."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--key-file {path}: cannot be read: {getattr(error, 'strerror', error)}"
        ) from error
