"""What every HTTP request meets first: who may ask, and one line of log without its contents."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from speechprune_cli.serving.refusals import Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Seen = Callable[[str, int, float], None]  # told of a path, a status and seconds

OPEN = ("/health",)  # asked without a key
KNOWN = ("/health", "/metrics", "/v1/models", "/v1/chat/completions")
CLOSED = 499  # the client went away before its answer was whole, as nginx has it
ENDED = "speechprune.ended"  # in a scope: the status that a stream should have had, once it ended


@dataclass(frozen=True)
class Front:
    """An app behind a door. Without a key it is for this machine alone."""

    app: App
    key: str | None
    log: Callable[[str], None]
    seen: Seen
    hosts: tuple[str, ...] | None = None  # names by which it may be called; None: any

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        begun, status = time.monotonic(), CLOSED

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._refusal(scope)
            await (self.app(scope, receive, noted) if refusal is None else refuse(refusal, noted))
        finally:
            seconds = time.monotonic() - begun
            path = scope["path"] if scope["path"] in KNOWN else "other"
            status = scope.get(ENDED, status)
            self.seen(path, status, seconds)
            self.log(f"{scope['method']} {path} {status} {seconds:.3f} s")

    def _refusal(self, scope: Message) -> Refusal | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").rpartition(":")
        name = host[0] if host[2].isdigit() else "".join(host)
        if self.hosts is not None and name not in self.hosts:
            return Refusal(421, "this server is for this machine alone", code="wrong_host")
        if self.key is None or scope["path"] in OPEN:
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        right = hmac.compare_digest(given.strip(), self.key.encode())
        if scheme.lower() == b"bearer" and right:
            return None
        reason = "give the server's key: Authorization: Bearer KEY"
        return Refusal(401, reason, None, "invalid_api_key", "authentication_error")


async def refuse(refusal: Refusal, send: Send) -> None:
    """A refusal as an HTTP response."""
    from speechprune_cli.escaping import json_text

    body = json_text(refusal.body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
