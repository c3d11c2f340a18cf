"""Where a server is, and how it may be asked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

from speechprune_cli.errors import UsageError, one_line

KEYS = ("SPEECHPRUNE_SERVER_KEY", "OPENAI_API_KEY")
TIMEOUT, REQUESTS = "SPEECHPRUNE_SERVER_TIMEOUT", "SPEECHPRUNE_SERVER_REQUESTS"
EXAMPLE = "give an address such as http://localhost:8000 (or local, in ask)"


@dataclass(frozen=True)
class Address:
    """`http://localhost:8000`, with `/v1` or without; behind a `#` the model that is meant."""

    url: str  # for people, without the key
    host: str
    port: int
    secure: bool
    path: str  # in front of `/v1/...`
    model: str | None  # None: the one that is served

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises UsageError for what is no address, and for one that holds a secret."""
        before = url.partition("#")[0]
        if "@" in before or "?" in before:
            raise UsageError(f"--server: leave the key out of the address, put it into {KEYS[0]}")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            name = (host or "").encode("idna").decode()
        except ValueError as error:
            raise UsageError(f"--server {url}: {one_line(error)}: {EXAMPLE}") from error
        if parts.scheme not in ("http", "https") or not host or not _plain(name + parts.path):
            raise UsageError(f"--server {url}: {EXAMPLE}")
        path = parts.path.rstrip("/").removesuffix("/v1")
        secure, plain = parts.scheme == "https", f"{parts.scheme}://{parts.netloc}{path}"
        port = port or (443 if secure else 80)
        return cls(plain, host, port, secure, path, parts.fragment or None)

    @property
    def private(self) -> bool:
        """Whether nobody on the way can read what is sent there."""
        if self.secure or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:  # a name
            return False


def key(address: Address) -> str | None:
    """The secret that a server may ask for, from the environment; it is never shown.

    OpenAI's was not put there for this server, and goes nowhere in clear text. Raises UsageError
    for what no header can hold.
    """
    for name in KEYS if address.private else KEYS[:1]:
        if found := os.environ.get(name, "").strip():
            if not _plain(found):
                raise UsageError(f"{name}: a key has printable ASCII characters alone")
            return found
    return None


def _plain(text: str) -> bool:
    """Whether a line of HTTP can hold it as it is."""
    return text.isascii() and text.isprintable() and " " not in text


def timeout() -> float:
    """Seconds without a word after which a server is given up. Raises UsageError."""
    return _positive(TIMEOUT, 600)


def requests() -> int:
    """How many questions a server is asked at once. Raises UsageError."""
    return max(1, int(_positive(REQUESTS, 32)))


def _positive(name: str, default: int) -> float:
    told = os.environ.get(name) or str(default)
    try:
        value = float(told)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{name}={told}: give a number above 0")
    return value
