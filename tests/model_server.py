"""A small HTTP server around a real model in this process, which speaks as vLLM does, or worse.

What it answers is what the model says; how it fails, a test decides (`Fault`).
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.backends.decoding import DecoderState

FLAGS = ("--enable-mm-embeds", "--enable-prompt-embeds")
OWNERS = {"vLLM": "vllm", "llama.cpp": "llamacpp", "Ollama": "library"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request."""

    status: int = 200  # other than that, it is all that is answered
    said: Any = ""  # with it
    headers: dict[str, str] = field(default_factory=dict)
    drops: bool = False  # the connection, before anything is said
    cuts_after: int | None = None  # events of a stream
    short: bool = False  # what is sent, of what is announced
    sleeps: float = 0.0


FINE = Fault()


class ModelServer:
    """Serves `lm` on a free port; faults are used up, one a request."""

    def __init__(self, lm: SpeechLM, engine: str = "vLLM") -> None:
        self.lm, self.engine, self.version = lm, engine, "0.32.0"
        self.names, self.context, self.flags = ["served"], 4096, FLAGS
        self.tells_likelihoods = True
        self.keeps: int | None = None  # tokens of a text, the last, where it is cut in silence
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.busy = self.busiest = 0
        self.lock, self.closed = threading.Lock(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.tell(self)

            def do_POST(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # a client that has heard enough is none
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """No longer there."""
        self.closed.set()
        self.http.shutdown()
        self.http.server_close()

    def tell(self, handler: Any) -> None:
        """Who it is."""
        self.headers.append(dict(handler.headers))
        owner, length = OWNERS.get(self.engine, "somebody"), self.context
        models = [{"id": name, "owned_by": owner, "max_model_len": length} for name in self.names]
        pages = {"/v1/models": {"data": models}}
        if self.engine == "vLLM":
            pages["/version"] = {"version": self.version}
        found = pages.get(handler.path)
        send(handler, 404 if found is None else 200, found or "nothing here")

    def answer(self, handler: Any) -> None:
        """As the model does, or as a fault has it."""
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.requests.append(body | {"path": handler.path})
            self.headers.append(dict(handler.headers))
            fault = self.faults.pop(0) if self.faults else FINE
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        self.closed.wait(fault.sleeps)
        with self.lock:
            self.busy -= 1
        if fault.drops:
            handler.close_connection = True
        elif fault.status != 200:
            send(handler, fault.status, fault.said, fault.headers)
        else:
            self.say(handler, body, fault)

    def say(self, handler: Any, body: dict[str, Any], fault: Fault) -> None:
        """The answer, whole or in a stream."""
        try:
            embeds, ids = self.read(body)
        except ValueError as error:
            send(handler, 400, {"error": {"message": str(error)}})
            return
        chat = "messages" in body
        with self.lock, torch.no_grad():
            chosen = list(self.tokens(body, embeds))
            texts = self.texts([token for token, _, _ in chosen])
            events = [
                self.event(body, chat, text, *each)
                for text, each in zip(texts, chosen, strict=True)
            ]
        events[0] |= {"prompt_token_ids": ids} if self.engine == "vLLM" else {}
        if not body.get("stream"):
            headers = {"Content-Length": "1000000"} if fault.short else {}
            handler.close_connection = fault.short
            send(handler, 200, joined(events, chat, len(embeds)), headers)
            return
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        for number, event in enumerate(events):
            if number == fault.cuts_after:
                return
            handler.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        if body.get("stream_options"):
            usage = {"choices": [], "usage": used(events, len(embeds))}
            handler.wfile.write(f"data: {json.dumps(usage)}\n\n".encode())
        handler.wfile.write(b"data: [DONE]\n\n")

    def read(self, body: dict[str, Any]) -> tuple[torch.Tensor, list[int]]:
        """Embeddings `[n, D]` of the prompt, and its ids. Raises ValueError as vLLM does."""
        lm: Any = self.lm
        if "prompt_embeds" in body:
            if FLAGS[1] not in self.flags:
                raise ValueError(f"You must set `{FLAGS[1]}` to input `prompt_embeds`.")
            embeds = self.fitting(body["prompt_embeds"])
            return embeds, [0] * len(embeds)
        if "prompt" in body:
            return lm.embed(body["prompt"]), body["prompt"]
        said = lm.text_ids(body["messages"][1]["content"]) if len(body["messages"]) > 1 else []
        content = body["messages"][0]["content"]
        if isinstance(content, str):
            prompt = lm.chat.prompt("", content, audio="")
            ids = [*prompt.before, *prompt.after][-(self.keeps or 0) :]
            return lm.embed(ids), ids
        if FLAGS[0] not in self.flags:
            raise ValueError(f"You must set `{FLAGS[0]}` to input `audio_embeds`")
        audio = self.fitting(content[0]["audio_embeds"])
        ids = lm.prompt_ids(content[1]["text"])
        after = [*ids.after, *said]
        rows = torch.cat([lm.embed(ids.before), audio, lm.embed(after)])
        return rows, [*ids.before, *[0] * len(audio), *after]

    def fitting(self, told: str) -> torch.Tensor:
        """Embeddings as they are sent. Raises ValueError for those of another model."""
        found = torch.load(io.BytesIO(base64.b64decode(told)), weights_only=True)
        if found.shape[1] != self.lm.hidden_size:
            raise ValueError(f"hidden dimension mismatch: got {found.shape[1]}")
        return found

    def tokens(self, body: dict[str, Any], embeds: torch.Tensor):
        """Each with the log-probabilities `[V]` that it was chosen by, and whether it is last."""
        lm, positions = self.lm, torch.arange(len(embeds))
        state = DecoderState(lm, lm.new_cache())
        hidden = state.read(embeds[None], lm.position_ids(positions))
        for left in range(body["max_tokens"] - 1, -1, -1):
            scores = lm.head(hidden[0, -1]).float().log_softmax(-1)
            token = int(scores.argmax())
            ends = token in lm.end_tokens
            yield token, scores, "stop" if ends else None if left else "length"
            if ends:
                return
            hidden = state.read_on(torch.tensor([[token]]))

    def texts(self, ids: list[int]) -> list[str]:
        """What each token adds, a character once it is whole."""
        found, sent = [], ""
        for count in range(1, len(ids) + 1):
            text = self.lm.text_of(ids[:count])
            if text.endswith("\ufffd") and count < len(ids):
                text = sent
            found.append(text[len(sent) :])
            sent = text
        return found

    def event(
        self,
        body: dict[str, Any],
        chat: bool,
        text: str,
        token: int,
        scores: torch.Tensor,
        finish: str | None,
    ) -> dict[str, Any]:
        """A token as vLLM tells it, or its text alone."""
        found: dict[str, Any] = {"finish_reason": finish}
        found |= {"delta": {"content": text}} if chat else {"text": text}
        vllm = self.engine == "vLLM"
        if vllm:
            found["token_ids"] = [token]
        wanted = body.get("logprobs")
        if wanted is not None and wanted is not False and self.tells_likelihoods:
            count = body.get("top_logprobs", 0) if chat else body["logprobs"]
            named = body.get("logprob_token_ids") or scores.topk(count).indices.tolist()
            name = "token_id:{}".format if vllm else lambda each: self.lm.text_of([each])
            top = {name(each): float(scores[each]) for each in named}
            found["logprobs"] = likelihoods(chat, name(token), float(scores[token]), top)
        return {"choices": [found]}


def likelihoods(chat: bool, token: str, value: float, top: dict[str, float]) -> dict[str, Any]:
    """In the format of chats, or of completions."""
    if not chat:
        return {"tokens": [token], "token_logprobs": [value], "top_logprobs": [top]}
    rows = [{"token": name, "logprob": each} for name, each in top.items()]
    return {"content": [{"token": token, "logprob": value, "top_logprobs": rows}]}


def joined(events: Sequence[dict[str, Any]], chat: bool, read: int) -> dict[str, Any]:
    """A stream as one answer; log-probabilities are those of its first token."""
    choices = [event["choices"][0] for event in events]
    texts = [each["delta"]["content"] if chat else each["text"] for each in choices]
    whole = choices[0] | {"finish_reason": choices[-1]["finish_reason"]}
    whole |= {"message": {"content": "".join(texts)}} if chat else {"text": "".join(texts)}
    if "token_ids" in whole:
        whole["token_ids"] = [token for each in choices for token in each["token_ids"]]
    whole.pop("delta", None)
    return {**events[0], "choices": [whole], "usage": used(events, read)}


def used(events: Sequence[dict[str, Any]], read: int) -> dict[str, int]:
    """How many tokens were read and written."""
    return {"prompt_tokens": read, "completion_tokens": len(events)}


def send(handler: Any, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
    """An answer in one piece."""
    content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)
