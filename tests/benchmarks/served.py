"""Prints what pruning gains where vLLM reads the prompts: requests a second, time to first token.

python tests/benchmarks/served.py [--shape qwen2-audio-7b] [--rounds 4] [--concurrent 1 4]
    [--seconds 90 300] [--keep 10%] [--dtype bfloat16]

A Qwen2-Audio with random weights, a decoder of the shape that is named and an encoder of one small
layer, read whole and pruned, by a vLLM that is started for it (`tests/vllm_server.py`, on a
processor; the environment of SPEECHPRUNE_VLLM, on a GPU). Recordings are encoded beforehand. Every
answer has 16 tokens; nothing is remembered between requests. Nothing else should run beside it.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
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
SHAPES = {
    "qwen2.5-0.5b": {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151936,
    },
    "qwen2-audio-7b": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11008,
        "vocab_size": 156032,
    },
}
COMMON = {"max_position_embeddings": 32768, "initializer_range": 0.02}
VLLM = ["--max-model-len", "16384", "--max-num-batched-tokens", "16384", "--max-num-seqs", "64"]
VLLM += ["--no-enable-prefix-caching"]
ON_GPU = ["--gpu-memory-utilization", "0.7", "--no-enforce-eager", "-cc.mode=0"]
"""The rest is for the client; kernels are captured in CUDA graphs, and none compiled."""
ON_GPU += ["-cc.cudagraph_mode=FULL_DECODE_ONLY"]


def main() -> None:
    """Measure every length, whole and pruned, at every number of questions at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--concurrent", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, nargs="+", default=[90, 300])
    parser.add_argument("--keep", default="10%")
    parser.add_argument("--dtype", default="auto")
    told = parser.parse_args()
    gpu = torch.cuda.is_available()
    machine = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} threads"
    print(f"{processor()}, {machine}")
    with served(told, gpu) as (folder, url):
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
                most = max(told.concurrent)
                prompts = [prompt_of(session, seconds, keep, n) for n in range(most)]
                for concurrent in told.concurrent:
                    asked = list(islice(cycle(prompts), told.rounds * concurrent))
                    row(session, asked, seconds, concurrent)


@contextmanager
def served(told: argparse.Namespace, gpu: bool) -> Iterator[tuple[Path, str]]:
    """The model's folder, and who serves it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = made(Path(scratch) / told.shape, told.dtype, gpu)
        flags = [*FLAGS, *VLLM, "--dtype", told.dtype, *(ON_GPU if gpu else ())]
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        log = Path(tempfile.gettempdir()) / "served.log"
        with serving(folder, *flags, log=log, settings=threads) as server:
            yield folder, server.url


def made(folder: Path, dtype: str, gpu: bool) -> Path:
    """The model, its weights drawn where that is fast."""
    torch.set_default_dtype(torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    with torch.device("cuda" if gpu else "cpu"):
        make_tiny_model(folder, "qwen2", **SHAPES[folder.name], **COMMON)
    torch.set_default_dtype(torch.float32)
    gc.collect()
    torch.cuda.empty_cache()
    return folder


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
