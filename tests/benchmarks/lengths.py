"""How long passages of sound should be.

    python tests/benchmarks/lengths.py WORK/spiral/tune.jsonl

A model that hears writes no sentences down, and none that reads well runs on a small machine. So a
transcript's words are put into passages as `cue` cuts sound, at the quietest moments of the
recording with 25 values a second, of several greatest lengths, and chosen by `mini`'s embeddings.
Prints the mean share of the key sentence that is kept, in percent.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from speechprune_cli import Session, load, load_audio
from speechprune_cli.backends.listening import loudness
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.bench.verdict import recall
from speechprune_cli.flow import SAMPLE_RATE, AudioTokens
from speechprune_cli.pruners._segments import quiet_segments

PER_SECOND = 25
LENGTHS = (4.4, 6.0, 8.0, 10.0, 12.0, 15.0)  # seconds
SHARES = ("10%", "20%")
QUERIES = ("question", "question+choices")


def in_passages(tokens: AudioTokens, path: Path, longest: float) -> AudioTokens:
    """The tokens of a transcript, numbered by the passage of sound that each is said in."""
    audio = load_audio(path)
    edges = torch.arange(int(audio.seconds * PER_SECOND) + 1) / PER_SECOND
    times = torch.stack([edges[:-1], edges[1:]], dim=1)
    passages = quiet_segments(loudness(audio.samples, times, SAMPLE_RATE), PER_SECOND, longest)
    moment = (tokens.times.mean(1) * PER_SECOND).long().clamp_max(len(passages) - 1)
    return replace(tokens, sentences=passages[moment].unique(return_inverse=True)[1])


def shares_found(session: Session, samples: Sequence[Sample], longest: float | None) -> list[str]:
    """Percent of the key sentences that are kept, by question alone, then with the options."""
    found = defaultdict(list)
    for sample in samples:
        tokens = session.encode(sample.audio)
        if longest is not None:
            tokens = in_passages(tokens, sample.audio, longest)
        for query, share in product(QUERIES, SHARES):
            how: dict[str, Any] = {
                "method": "cue",
                "keep": share,
                "choices": sample.options,
                "query": query,
            }
            kept = session.prune(tokens, sample.question, **how).kept
            found[query, share].append(recall(sample.key_span, tokens.times, kept))
    return [f"{100 * fmean(x for x in each if x is not None):.1f}" for each in found.values()]


def main() -> None:
    """Measure and print."""
    session = load("mini")
    samples = load_task("jsonl", Path(sys.argv[1]), offline=True).samples
    print("\t".join(["passages", *(", ".join(each) for each in product(QUERIES, SHARES))]))
    for longest in (None, *LENGTHS):
        name = "sentences" if longest is None else f"{longest:g} s"
        print("\t".join([name, *shares_found(session, samples, longest)]), flush=True)


if __name__ == "__main__":
    main()
