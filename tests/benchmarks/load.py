"""Load on `speechprune serve`: many clients, few recordings, with and without pruning.

    python tests/benchmarks/load.py [--model nano] [--requests 200] [--clients 16]

Starts a server of its own on a free port, has every one of 10 recordings of spiral-nano encoded by
a first question, then asks about them by OpenAI's client, unpruned and as the model's preset
prunes. Prints latency, throughput, and the server's memory before, halfway and after; fails where
an answer is lost or differs from that of the first time that it was asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from statistics import quantiles
from urllib.request import urlopen

import openai

from speechprune_cli.config import PACKAGE
from speechprune_cli.provenance import processor

RECORDINGS = 10
CONDITIONS = {"unpruned": {"method": "full"}, "pruned": {}}
MEMORY = re.compile(r"^process_resident_memory_bytes (\S+)$", re.M)


@dataclass(frozen=True)
class Asked:
    """A question, its recording in base64, and what was answered."""

    question: str
    data: str
    pruning: dict[str, str]

    def answer(self, client: openai.OpenAI, model: str) -> tuple[str, float, int, int]:
        """The text, the seconds that it took, and the recording's tokens, whole and kept."""
        audio = {"type": "input_audio", "input_audio": {"data": self.data, "format": "opus"}}
        content = [{"type": "text", "text": self.question}, audio]
        begun = time.monotonic()
        found = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": content}],
            max_tokens=16,
            extra_body={"pruning": self.pruning},
        )
        seconds, pruning = time.monotonic() - begun, found.speechprune["pruning"]
        return found.choices[0].message.content, seconds, pruning["tokens"], pruning["kept"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    print(f"{options.requests} requests, {options.clients} clients, {processor()}\n")
    print("| | tokens kept | p50, s | p95, s | requests/s | lost | MB before | halfway | after |")
    print("|---|---|---|---|---|---|---|---|---|")
    with server(options.model) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=8, timeout=600)
        for asked in questions({"keep": "1"}, RECORDINGS):
            asked.answer(client, options.model)  # which encodes the recording
        for name, pruning in CONDITIONS.items():
            print(measured(name, pruning, client, url, options), flush=True)


def measured(
    name: str,
    pruning: dict[str, str],
    client: openai.OpenAI,
    url: str,
    options: argparse.Namespace,
) -> str:
    """A line of the table. Raises where an answer is lost, or not that of the first time."""
    asked = list(questions(pruning, options.requests))
    memory, begun = [megabytes(url)], time.monotonic()
    found = []
    for half in (asked[: len(asked) // 2], asked[len(asked) // 2 :]):
        with ThreadPoolExecutor(options.clients) as pool:
            found += pool.map(lambda each: each.answer(client, options.model), half)
        memory.append(megabytes(url))
    seconds = time.monotonic() - begun
    texts = {(each.question, each.data): said[0] for each, said in zip(asked, found, strict=True)}
    for each, said in zip(asked, found, strict=True):
        assert said[0] == texts[each.question, each.data], f"two answers to {each.question}"
    latency = quantiles((said[1] for said in found), n=20)
    kept = sum(said[3] for said in found) / sum(said[2] for said in found)
    cells = [
        f"{kept:.0%}",
        f"{latency[9]:.2f}",
        f"{latency[18]:.2f}",
        f"{len(found) / seconds:.1f}",
    ]
    cells += [str(len(asked) - len(found)), *(f"{each:.0f}" for each in memory)]
    return f"| {' | '.join([name, *cells])} |"


def questions(pruning: dict[str, str], count: int) -> Iterator[Asked]:
    """Of the first recordings in turn, all over again until there are enough."""
    folder = PACKAGE / "bench" / "spiral_nano"
    lines = (folder / "index.jsonl").read_text(encoding="utf-8").splitlines()
    records = {line["audio"]: line for line in map(json.loads, lines)}
    chosen = [records[name] for name in sorted(records)[:RECORDINGS]]
    made = [
        Asked(each["question"], b64encode((folder / each["audio"]).read_bytes()).decode(), pruning)
        for each in chosen
    ]
    yield from islice((each for _ in range(count) for each in made), count)


def megabytes(url: str) -> float:
    """Resident memory of the server."""
    with urlopen(url.replace("/v1", "/metrics")) as answer:  # noqa: S310 - our own address
        return float(MEMORY.findall(answer.read().decode())[0]) / 1e6


@contextmanager
def server(model: str) -> Iterator[str]:
    """Its address."""
    command = [sys.executable, "-m", "speechprune_cli", "serve", "--port", "0", "--json", "-q"]
    with subprocess.Popen([*command, "--model", model], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()
    assert process.returncode == 0, f"the server ended with the code {process.returncode}"


if __name__ == "__main__":
    main()
