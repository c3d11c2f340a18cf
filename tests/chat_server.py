"""A real OpenAI-compatible endpoint on this machine whose answers a test decides."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """An OpenAI-compatible endpoint whose answers a test decides."""

    def __init__(self, answer: Callable[[dict], str | int]):
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body | {"path": self.path})
                outer.headers.append(dict(self.headers))
                said = answer(body)
                self.send_response(said if isinstance(said, int) else 200)
                self.end_headers()
                if isinstance(said, str):
                    message = {"choices": [{"message": {"role": "assistant", "content": said}}]}
                    self.wfile.write(json.dumps(message).encode())
                else:
                    self.wfile.write(b"the machine is on fire")

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """No longer there."""
        self.http.shutdown()
        self.http.server_close()

    @property
    def drafts(self) -> int:
        """Dialogues that were asked for."""
        return sum("response_format" in request for request in self.requests)


def draft(body: dict, **changes) -> str:
    """What a good model answers."""
    task = body["messages"][1]["content"]
    before, after = map(int, re.search(r"(\d+) sentences, then .* then (\d+)", task).groups())
    people = max(map(int, re.findall(r"speakers? (?:\d (?:and|to) )?(\d)", task)))
    lines = [
        {
            "speaker": n % people + 1,
            "text": f"And then they came to talk about thing {n} of the list.",
        }
        for n in range(before + after)
    ]
    whole = {
        "before": lines[:before],
        "key": {"speaker": 1, "text": "You know, my aunt keeps eleven goats on the roof."},
        "after": lines[before:],
        "question": "How many goats does the aunt keep?",
        "answer": "eleven",
        "wrong": ["nine", "twelve", "four"],
    }
    return json.dumps(whole | changes)


def well(body: dict) -> str:
    """Good dialogues, and a guess that is always the first letter."""
    return draft(body) if "response_format" in body else "A"
