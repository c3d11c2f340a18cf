"""Files from real servers: one that serves ranges, one that does not, some that fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest
from full_disk import full_disk

from speechprune_cli.atomic import locked
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.fetch import BLOCK, Download, fetch, npm_tarball

CONTENT = Random(0).randbytes(3 * BLOCK + 1234)
HALF = CONTENT[: BLOCK + 17]


class Handler(BaseHTTPRequestHandler):
    """Serves `CONTENT`, ranges of it too where `ranges` says so, at most `most` bytes a time."""

    def __init__(self, asked: list, how: dict, *arguments):
        self.asked, self.how = asked, how
        super().__init__(*arguments)

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        if "status" in self.how:
            self.send_error(self.how["status"])
            return
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and self.how.get("ranges") else 0
        if start >= self.how.get("length", len(CONTENT)):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:][: self.how.get("most")])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Start servers; what they were asked for comes with the download."""
    servers = []

    def start(**how) -> tuple[Download, list]:
        asked: list = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, asked, how))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/file.bin"
        return Download(url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest()), asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "made" / "on" / "the way" / "file.bin"


@pytest.fixture
def half(target):
    """What an earlier fetch has left."""
    target.parent.mkdir(parents=True)
    part = target.with_name("file.bin.part")
    part.write_bytes(HALF)
    return part


def names(target) -> set[str]:
    return {path.name for path in target.parent.iterdir() if path.name != ".lock"}


def test_a_file_comes_whole_and_once(serve, target):
    download, asked = serve(ranges=True)
    told: list[int] = []
    fetch(download, target, told.append)
    assert target.read_bytes() == CONTENT
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)
    fetch(download, target, told.append)
    assert asked == [None], "the second time nobody is asked"
    assert names(target) == {"file.bin"}


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_it_goes_on_where_it_stopped_or_begins_anew(serve, target, half, ranges):
    download, asked = serve(ranges=ranges)
    told: list[int] = []
    fetch(download, target, told.append)
    assert target.read_bytes() == CONTENT
    assert asked == [f"bytes={len(HALF)}-"]
    assert (told[0] > len(HALF)) == ranges, "a server without ranges sends all of it again"
    assert names(target) == {"file.bin"}


def test_a_connection_that_breaks_keeps_what_has_come(serve, target):
    download, asked = serve(ranges=True, most=BLOCK)
    with pytest.raises(SpeechPruneError, match=r"^cannot fetch http\S+: .*\w"):
        fetch(download, target)
    for _ in range(2):
        with pytest.raises(SpeechPruneError):
            fetch(download, target)
    assert not target.exists()
    fetch(download, target)
    assert target.read_bytes() == CONTENT
    assert asked == [None, *(f"bytes={n * BLOCK}-" for n in (1, 2, 3))]


@pytest.mark.parametrize(
    "damaged", [bytes(len(HALF)), bytes(len(CONTENT)), bytes(len(CONTENT) + 9)]
)
def test_a_damaged_part_is_fetched_anew(serve, target, half, damaged):
    half.write_bytes(damaged)
    download, asked = serve(ranges=True)
    fetch(download, target)
    assert target.read_bytes() == CONTENT
    assert asked[-1] is None


def test_a_range_that_cannot_be_is_asked_for_no_more(serve, target, half):
    download, asked = serve(ranges=True, length=len(HALF))
    fetch(download, target)
    assert target.read_bytes() == CONTENT
    assert asked == [f"bytes={len(HALF)}-", None]


def test_another_file_than_the_tested_one_is_not_kept(serve, target, half):
    download, _ = serve(ranges=True)
    with pytest.raises(SpeechPruneError, match="not the file that was tested"):
        fetch(replace(download, sha256="0" * 64), target)
    assert names(target) == set()


def test_a_longer_file_than_the_tested_one_is_not_kept(serve, target):
    download, _ = serve()
    with pytest.raises(SpeechPruneError, match="not the file that was tested"):
        fetch(replace(download, bytes=BLOCK), target)
    assert names(target) == set()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d, "HTTP Error 404"),
        (lambda d: replace(d, url="http://127.0.0.1:9/file.bin"), "refused"),
        (lambda d: replace(d, url="file:///etc/hostname"), "not an http"),
    ],
)
def test_what_is_out_of_reach_is_one_line(
    serve, target, half, change: Callable[[Download], Download], complaint
):
    download, _ = serve(status=404)
    with pytest.raises(SpeechPruneError, match=complaint) as caught:
        fetch(change(download), target)
    assert "\n" not in str(caught.value)
    assert half.read_bytes() == HALF


def test_a_folder_that_cannot_be_written_is_one_line(serve, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpeechPruneError, match=f"^cannot write {tmp_path / 'file' / 'x'}"):
        fetch(serve()[0], tmp_path / "file" / "x")


def test_a_full_disk_is_one_line_and_keeps_what_has_come(serve, target):
    download, asked = serve(ranges=True)
    refused = pytest.raises(SpeechPruneError, match=r"^cannot write .*: File too large")
    with full_disk(BLOCK), refused:
        fetch(download, target)
    fetch(download, target)
    assert target.read_bytes() == CONTENT
    assert asked == [None, f"bytes={BLOCK}-"]


def test_two_do_not_fetch_into_one_folder(serve, target, half):
    with (
        locked(target.parent, "download"),
        pytest.raises(UsageError, match="in use by another download"),
    ):
        fetch(serve()[0], target)


def test_who_looks_into_a_folder_turns_nobody_away(serve, target):
    """It is held for a moment, by a process that asks whether anybody works there."""
    with ExitStack() as looking:
        looking.enter_context(locked(target.parent, "download"))
        threading.Timer(0.05, looking.pop_all().close).start()
        fetch(serve()[0], target)
    assert target.read_bytes() == CONTENT


def test_npm_packages_come_from_the_registry_that_npm_would_ask(monkeypatch):
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    assert npm_tarball("a", "1.2.3") == "https://registry.npmjs.org/a/-/a-1.2.3.tgz"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://localhost:1/npm/")
    assert npm_tarball("@of/a", "1.0.0") == "http://localhost:1/npm/@of/a/-/a-1.0.0.tgz"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "ftp://x")
    with pytest.raises(UsageError, match="NPM_CONFIG_REGISTRY=ftp://x: give an http"):
        npm_tarball("a", "1.2.3")
