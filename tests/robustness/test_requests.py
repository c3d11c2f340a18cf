"""Whatever a client sends to `serve`, and whatever a server that reads prompts answers."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest
from model_server import ModelServer
from running_server import chat, raw, running

from robustness import targets
from robustness.cases import CONTROL, LONGEST_LINE, Tally, Target, play
from robustness.mutator import mutated, mutated_text
from robustness.test_bad_inputs import share, unchanged
from robustness.workers import Outcome
from speechprune_cli.main import main
from speechprune_cli.pipeline import load

pytestmark = pytest.mark.slow

QUESTION = "When is the report due?"
PATH = "/v1/chat/completions"
ASKED = {  # all that a request may say, a share of it each time
    "pruning": {"method": "uniform", "rate": 0.5, "query": "report", "set": {}},
    "choices": ["on Friday", "never"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "position": "original",
    "details": True,
    "track": 1,
    "max_completion_tokens": 2,
    "temperature": 0,
}


def test_requests(campaign, tiny_model_folder, recording):
    """An answer, or an error of the client's in one line; and the next one is answered."""
    tally = campaign.tallies["request"] = Tally()
    with running(load(str(tiny_model_folder), dtype="float32", cache=False)) as server:
        for number in range(share(campaign, "request")):
            random = Random(f"{campaign.seed}/request/{number}")
            body, begun = _body(server.model, recording, random), time.monotonic()
            if random.random() < 0.2:
                found = b""
                with suppress(OSError):  # what else was sent is not read, and the connection ended
                    found = raw(server.port, mutated(_http(body), random))
                faults = ["no HTTP"] if found and not found.startswith(b"HTTP/1.1 ") else []
                code = 0 if b" 200 " in found[:16] else 2
            else:
                status, _, found = server.request("POST", PATH, body)
                code, faults = (0, []) if status == 200 else (2, _refused(status, found))
            if server.health()["status"] != "ok":
                faults.append("not healthy")
            outcome = Outcome(code, found, found, time.monotonic() - begun, 0, 0)
            tally.add(f"{number}: {body[:2000]!r}", outcome, faults)
        status, _ = server.complete(chat(server.model, recording, max_tokens=2))
        assert status == 200
    said = "\n".join(server.lines)
    assert "Traceback" not in said
    assert not tally.faults, "\n".join(tally.faults)


def _body(model: str, recording: bytes, random: Random) -> bytes:
    """Of a request, something in it changed: of its JSON, or of the recording."""
    some = {name: value for name, value in ASKED.items() if random.random() < 0.3}
    whole = chat(model, recording, **{"max_tokens": 2, **some})
    if random.random() < 0.3:
        audio = whole["messages"][0]["content"][1]["input_audio"]
        audio["data"] = b64encode(mutated(b64decode(audio["data"]), random)).decode()
        return json.dumps(whole).encode()
    return mutated_text(json.dumps(whole).encode(), random)


def _http(body: bytes) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def _refused(status: int, found: bytes) -> list[str]:
    """What is wrong with a refusal."""
    try:
        message = json.loads(found)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return [f"{status} without an error in it"]
    faults = [] if 400 <= status < 500 else [f"{status}"]
    if "\n" in message or len(message) > LONGEST_LINE or CONTROL.search(message):
        faults.append("no line for people")
    return faults


@dataclass
class Replay:
    """What a server answered, changed by chance: to the same requests, or ones like them."""

    url: str  # of the server
    address: str = ""  # its own
    random: Random | None = None  # None: as it is answered, and remembered
    answers: dict[tuple[str, str, bytes], tuple[int, str, bytes]] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, type and content."""
        key = (method, path, body)
        if self.random is None:
            self.answers[key] = self.ask(*key)
            return self.answers[key]
        alike = [each for asked, each in self.answers.items() if asked[:2] == key[:2]]
        status, kind, content = self.answers.get(key) or alike[-1]
        if self.random.random() < 0.03:
            status = self.random.choice((204, 400, 401, 404, 429, 500, 503, 301))
        return status, kind, _changed(content, self.random)

    def ask(self, method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Of the server itself."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            found = connection.getresponse()
            return found.status, found.headers["Content-Type"] or "", found.read()
        finally:
            connection.close()


def _changed(content: bytes, random: Random) -> bytes:
    """An event of a stream, a value of JSON, or bytes; mostly nothing."""
    if random.random() < 0.85:
        return content
    if not content.startswith(b"data: "):
        return mutated_text(content, random)
    events = content.split(b"\n\n")
    at = random.randrange(len(events))
    events[at] = b"data: " + mutated_text(events[at].removeprefix(b"data: "), random).strip()
    return b"\n\n".join(events)


@pytest.fixture
def replay(tiny_transcriber, imagining) -> Iterator[Replay]:
    """In front of a server that reads transcripts."""
    server = ModelServer(load(str(tiny_transcriber), dtype="float32", cache=False).model)
    replay = Replay(server.url)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, content = replay.answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.handle_error = lambda *_: None
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    replay.address = f"http://127.0.0.1:{http.server_port}"
    yield replay
    http.shutdown()
    http.server_close()
    server.close()


def test_replies(campaign, replay, tiny_transcriber, recording, tmp_path, monkeypatch):
    """An answer, or a line that says what is wrong with the server."""
    monkeypatch.setattr("speechprune_cli.remote.http.PAUSES", (0.0, 0.0))
    files = {"work/a.wav": recording, "work/a.srt": targets.SUBTITLES["a.srt"].encode()}
    ask = ["ask", "a.wav", QUESTION, "--from-transcript", "a.srt", "-m", str(tiny_transcriber)]
    ask += ["--dtype", "float32", "--server", replay.address, "--max-new-tokens", "4"]
    more = {"json": ["--json"], "choices": ["--choice", "on Friday", "--choice", "no"]}
    ways = {way: [*ask, *told] for way, told in more.items()}
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        for name, content in files.items():
            Path(Path(name).name).write_bytes(content)
        assert [main([*way, "--quiet"]) for way in ways.values()] == [0, 0]
    tally = campaign.tallies["reply"] = Tally()
    files["work/x"] = b""
    settings = {"SPEECHPRUNE_SERVER_TIMEOUT": "5"}
    for number in range(share(campaign, "reply")):
        random = Random(f"{campaign.seed}/reply/{number}")
        replay.random = Random(random.random())
        way, line = random.choice(list(ways.items()))
        target = Target(way, line, files, "work/x", {0, 6}, unchanged, environment=settings)
        play(target, str(number), random, tmp_path, tally)
    assert not tally.faults, "\n".join(tally.faults)
