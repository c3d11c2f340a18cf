"""Who a server is: which engine of which version, what it serves, how much that can read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from speechprune_cli.config import Preset
from speechprune_cli.errors import ServerError
from speechprune_cli.remote.http import Client

VLLM, LLAMA_CPP, OLLAMA, OTHER = "vLLM", "llama.cpp", "Ollama", "an OpenAI-compatible server"
OWNERS = {"vllm": VLLM, "llamacpp": LLAMA_CPP, "library": OLLAMA}
"""What each engine calls the owner of its models."""
NEWEST = ":latest"
"""What Ollama adds to the name of a model that is given none."""
OURS = "speechprune"
"""What `speechprune serve` calls it."""
OLDEST, TRIED = (0, 26), (0, 32)
"""Versions of vLLM: from the first on it takes all that is asked here; up to the last, tests run
with it."""


@dataclass(frozen=True)
class Server:
    """What a server tells of itself."""

    engine: str
    version: str | None
    model: str  # by its name there
    context: int | None  # tokens of a prompt and its answer
    decisions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        return self.engine if self.version is None else f"{self.engine} {self.version}"


def find_server(client: Client, preset: Preset) -> Server:
    """Ask who it is. Raises ServerError, also for a version that is too old."""
    told = client.get("/v1/models")
    served = told.get("data") if isinstance(told, dict) else None
    if not isinstance(served, list) or not all(map(_named, served)):
        raise ServerError(
            f"{client.address.url} is no OpenAI-compatible server: it lists no models under "
            "/v1/models: is the path right?"
        )
    if any(each.get("owned_by") == OURS for each in served):
        raise ServerError(
            f"{client.address.url} is a speechprune serve, which takes recordings, not prompts: "
            "ask it with --server local, or by any client of OpenAI's"
        )
    model = _meant(client, preset, served)
    engine = OWNERS.get(str(model.get("owned_by")), OTHER)
    version: str | None = None
    decisions: tuple[str, ...] = ()
    if engine == VLLM:
        running = client.get("/version")
        version = str(running.get("version") if isinstance(running, dict) else None)
        decisions = check_version(client.address.url, version)
    return Server(engine, version, model["id"], _context(client.address.url, model), decisions)


def check_version(url: str, version: str) -> tuple[str, ...]:
    """What to say of a version of vLLM. Raises ServerError where it is too old, or unknown."""
    found = re.match(r"(\d+)\.(\d+)", version)
    numbers = tuple(map(int, found.groups())) if found else (0, 0)
    if numbers < OLDEST:
        raise ServerError(f"{url} runs vLLM {version}: {_dotted(OLDEST)} or newer is needed")
    if numbers > TRIED:
        return (f"vLLM {version} is newer than what was tried, {_dotted(TRIED)}",)
    return ()


def _context(url: str, model: dict[str, Any]) -> int | None:
    """As vLLM tells it, or llama.cpp. Raises ServerError where it is none."""
    meta = model.get("meta")
    told = model.get("max_model_len")
    if told is None and isinstance(meta, dict):
        told = meta.get("n_ctx")
    if told is None or (type(told) is int and told > 0):
        return told
    raise ServerError(f"{url} tells a context of {told!r:.40} tokens")


def _meant(client: Client, preset: Preset, served: list[dict[str, Any]]) -> dict[str, Any]:
    """The model that is asked: named behind the address, the only one, or called like ours."""
    wanted, names = client.address.model, [each["id"] for each in served]
    if wanted is None and len(served) == 1:
        return served[0]
    reader = preset.reader.source if preset.reader else preset.source
    ours = (preset.name, preset.source, reader) if wanted is None else (wanted,)
    for tag in ("", NEWEST):
        for name, each in zip(names, served, strict=True):
            if {f"{one}{tag}" for one in ours} & {name, str(each.get("root"))}:
                return each
    listed = ", ".join(names[:8]) or "no model"
    missed = "" if wanted is None else f", not {wanted}"
    raise ServerError(
        f"{client.address.url} serves {listed}{missed}: say which behind the address, as "
        f"{client.address.url}#{names[0] if names else 'NAME'}"
    )


def _named(told: Any) -> bool:
    return isinstance(told, dict) and isinstance(told.get("id"), str)


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
