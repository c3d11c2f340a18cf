"""The HTTP endpoints: `/v1/chat/completions`, `/v1/models`, `/health`, `/metrics`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from speechprune_cli.errors import SpeechPruneError, one_line
from speechprune_cli.escaping import json_text
from speechprune_cli.serving.answering import Answering
from speechprune_cli.serving.front import CLOSED, ENDED, Seen
from speechprune_cli.serving.line import Begun, Done, Gone, Job, Line, News, busy
from speechprune_cli.serving.metrics import Metrics
from speechprune_cli.serving.refusals import FAILED, Refusal, refusal_of
from speechprune_cli.serving.replies import Replies, event
from speechprune_cli.serving.request import Served, read_request

JSON = "application/json"
BODY_SECONDS = 60  # in which a request has to have come whole
DISCARDED = 4  # times the largest body that is read on, so that a client gets its refusal


@dataclass
class Service:
    """One model behind HTTP. Made in the event loop that it runs in."""

    answering: Answering
    served: Served
    warn: Callable[[str], None]  # told of failures that are no client's, a line each
    threads: int = 1  # that answer at a time
    line: Line = field(init=False)
    metrics: Metrics = field(init=False)
    received: int = 0  # bytes of the requests that are there

    def __post_init__(self) -> None:
        self.line = Line(self.answering, self.served.limits, self.threads)
        self.metrics = Metrics(self.line, self.answering)
        self.created = int(time.time())

    @cached_property
    def app(self) -> FastAPI:
        """All endpoints. Its errors are OpenAI's."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.add_api_route("/v1/chat/completions", self.complete, methods=["POST"])
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_route("/v1/models/{name:path}", self.model, methods=["GET"])
        app.add_api_route("/health", self.health, methods=["GET"])
        app.add_api_route("/metrics", self.counts, methods=["GET"])
        for kind in (Refusal, SpeechPruneError, HTTPException, ClientDisconnect, Gone, Exception):
            app.add_exception_handler(kind, self._refused)
        return app

    @property
    def seen(self) -> Seen:
        """Counts a request."""

        def count(path: str, status: int, seconds: float) -> None:
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(seconds)

        return count

    async def complete(self, request: Request) -> Response:
        """An answer, whole or piece by piece."""
        with self._room_for(request):
            asked = await run_in_threadpool(read_request, await self._body(request), self.served)
            job, replies = Job(asked), Replies(asked, self.served.model)
            self.line.join(job)
            deadline = asyncio.get_running_loop().time() + self.served.limits.timeout
            try:
                async with self._watched(request, job):
                    news = await self._next(job, deadline)
                    while isinstance(news, str | Begun) and not asked.stream:
                        news = await self._next(job, deadline)
            except BaseException:
                self.line.leave(job)
                raise
        if isinstance(news, Done):
            return _json(replies.whole(news))
        request.scope[ENDED] = CLOSED  # unless it comes to an end
        pieces = self._pieces(request, job, replies, news, deadline)
        return StreamingResponse(pieces, media_type="text/event-stream")

    async def _pieces(
        self, request: Request, job: Job, replies: Replies, news: News, deadline: float
    ) -> AsyncIterator[str]:
        """Events from the first news on; an error on the way is the last of them."""
        blank = True  # as long as nothing was said, blanks are left out
        try:
            while not isinstance(news, Done):
                if isinstance(news, Begun):
                    yield replies.first(news)
                elif isinstance(news, str) and (text := news.lstrip() if blank else news):
                    blank = False
                    yield replies.piece(text)
                news = await self._next(job, deadline)
            if blank and news.fields["answer"]:
                yield replies.piece(news.fields["answer"])
            yield replies.last(news)
            request.scope[ENDED] = 200
        except Refusal as refusal:
            request.scope[ENDED] = refusal.status
            yield event(refusal.body)
        except Exception as error:
            if not isinstance(error, Gone):
                request.scope[ENDED] = 500
            raise
        finally:
            self.line.leave(job)

    async def _next(self, job: Job, deadline: float) -> News:
        """What becomes of a job next. Raises Refusal where it fails or takes too long, Gone."""
        limit = self.served.limits.timeout
        try:
            async with asyncio.timeout_at(deadline):
                news = await job.news.get()
        except TimeoutError:
            reason = f"no answer within {limit:g} s"
            raise Refusal(504, reason, None, "timeout", FAILED) from None
        if isinstance(news, Gone):
            raise news
        if isinstance(news, BaseException):
            raise self._told(news) from news
        if isinstance(news, Done):
            self.metrics.answered(news.fields)
        return news

    @asynccontextmanager
    async def _watched(self, request: Request, job: Job) -> AsyncIterator[None]:
        """A job that is told where its client goes away."""

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            job.news.put_nowait(Gone())

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _body(self, request: Request) -> bytes:
        """A request's content. Raises Refusal where it is too large, or too slow."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise Refusal(415, f"the content-type has to be {JSON}", code="no_json")
        most, size, chunks = self.served.limits.body_bytes, 0, list[bytes]()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= most:
                        chunks.append(chunk)
                    else:
                        chunks.clear()
                    if size > DISCARDED * most:
                        break
        except TimeoutError:
            reason = f"the request did not come whole within {BODY_SECONDS} s"
            raise Refusal(408, reason, code="timeout") from None
        if size > most:
            reason = f"recordings of at most {self.served.limits.megabytes} MB are taken"
            raise Refusal(413, reason, "messages", "too_large")
        return b"".join(chunks)

    @contextmanager
    def _room_for(self, request: Request) -> Iterator[None]:
        """Memory for a request. Raises Refusal where all of them would take too much."""
        length, limits = request.headers.get("content-length", ""), self.served.limits
        size = min(int(length) if length.isdecimal() else limits.body_bytes, limits.body_bytes)
        if self.received + size > limits.received_bytes:
            raise busy("the requests that are there fill its memory", 5)
        self.received += size
        try:
            yield
        finally:
            self.received -= size

    async def models(self) -> Response:
        """The one model that is served."""
        return _json({"object": "list", "data": [self._model]})

    async def model(self, name: str) -> Response:
        """The same by its name."""
        if name != self.served.model:
            raise Refusal(404, f"no model {name!r} is served", "model", "model_not_found")
        return _json(self._model)

    @property
    def _model(self) -> dict[str, Any]:
        made = {"object": "model", "created": self.created, "owned_by": "speechprune"}
        return {"id": self.served.model, **made}

    async def health(self) -> Response:
        """Whether requests are taken."""
        line = self.line
        counted = {"waiting": len(line.waiting), "running": len(line.running)}
        status = "stopping" if line.stopping else "ok"
        told = {"status": status, "model": self.served.model, **counted}
        return _json(told, 503 if line.stopping else 200)

    async def counts(self) -> Response:
        """What was counted, for Prometheus."""
        return Response(self.metrics.text_format(), media_type="text/plain; version=0.0.4")

    async def _refused(self, _request: Request, error: BaseException) -> Response:
        """An error as OpenAI's clients read it."""
        if isinstance(error, Gone | ClientDisconnect):
            return Response(status_code=CLOSED)
        if isinstance(error, HTTPException):
            error = Refusal(error.status_code, f"{error.detail}", code="no_such_endpoint")
        refusal = self._told(error)
        return _json(refusal.body, refusal.status, refusal.headers)

    def _told(self, error: BaseException) -> Refusal:
        """What a client is told; of failures that are not its own a line is logged."""
        refusal = refusal_of(error)
        if refusal.kind == FAILED and refusal is not error:
            own = isinstance(error, SpeechPruneError)
            self.warn(one_line(error) if own else f"{type(error).__name__}: {one_line(error)}")
        return refusal


def _json(content: dict[str, Any], status: int = 200, headers: Any = None) -> Response:
    return Response(json_text(content).encode(), status, headers, media_type=JSON)
