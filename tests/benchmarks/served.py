"""Prints what pruning gains where vLLM reads the prompts: requests a second, time to first token.

python tests/benchmarks/served.py [--requests 4] [--concurrent 1 4] [--seconds 90 300] [--keep 10%]

A Qwen2-Audio with random weights and a decoder of Qwen2.5-0.5B's shape, read whole and pruned, by
a vLLM that is started for it (`tests/vllm_server.py`) or, with `--server URL --model FOLDER`, by
one that runs already. Every answer has 16 tokens; nothing is remembered between requests. Nothing
else should run beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from tiny_models import make_tiny_model
from vllm_server import FLAGS, serving

from speechprune_cli import load
from speechprune_cli.flow import SAMPLE_RATE, Prompt
from speechprune_cli.pipeline import Session
from speechprune_cli.provenance import processor

QUESTION = "What happened in the end?"
NEW_TOKENS = 16
SHAPE = {
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "initializer_range": 0.02,
}
"""Of Qwen2.5-0.5B."""


def main() -> None:
    """Measure every length, whole and pruned, at every number of questions at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--concurrent", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, nargs="+", default=[90, 300])
    parser.add_argument("--keep", default="10%")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--server")
    parser.add_argument("--model", type=Path)
    told = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads")
    with served(told) as (folder, url):
        session = load(str(folder), cache=False, dtype=told.dtype, server=url)
        for decision in session.decisions:
            print(decision)
        here = sum(each.numel() for each in session.model.model.parameters())
        print(f"held here: {here:,} of {session.model.parameters:,} parameters\n")
        session.respond(prompt_of(session, 5, "100%", 0), max_new_tokens=2)  # the first is slower
        print(
            f"{'recording':>9} {'tokens':>7} {'at once':>7} {'requests/s':>10} {'first token':>11}"
        )
        for seconds in told.seconds:
            for keep in ("100%", told.keep):
                prompts = [prompt_of(session, seconds, keep, n) for n in range(told.requests)]
                for concurrent in told.concurrent:
                    row(session, prompts, seconds, concurrent)


@contextmanager
def served(told: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    """The model's folder, and who serves it."""
    if told.server:
        yield told.model, told.server
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_tiny_model(Path(scratch) / "half-a-billion", "qwen2", **SHAPE)
        flags = ["--max-model-len", "16384", "--no-enable-prefix-caching", "--dtype", told.dtype]
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        log = Path(tempfile.gettempdir()) / "served.log"
        with serving(folder, *FLAGS, *flags, log=log, settings=threads) as server:
            yield folder, server.url


def prompt_of(session: Session, seconds: float, keep: str, seed: int) -> Prompt:
    """Of a recording of noise, another for each seed."""
    count = round(seconds * SAMPLE_RATE)
    samples = np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)
    tokens = session.encode(samples, sample_rate=SAMPLE_RATE)
    selection = session.prune(tokens, QUESTION, method="random", keep=keep, seed=seed)
    return session.build_prompt(tokens, selection, QUESTION)


def row(session: Session, prompts: list[Prompt], seconds: float, concurrent: int) -> None:
    """One line of the table."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(concurrent) as pool:
        answers = list(
            pool.map(lambda each: session.respond(each, max_new_tokens=NEW_TOKENS), prompts)
        )
    rate = len(prompts) / (time.perf_counter() - begun)
    first = statistics.median(answer.prefill_seconds for answer in answers)
    length = prompts[0].audio_tokens + prompts[0].text_tokens
    print(f"{seconds:>7g} s {length:>7,} {concurrent:>7} {rate:>10.2f} {first:>9.2f} s", flush=True)


if __name__ == "__main__":
    main()
