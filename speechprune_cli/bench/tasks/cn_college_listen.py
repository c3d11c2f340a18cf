"""CN-College-Listen: listening tests of Chinese colleges, in English, from AudioBench."""

from __future__ import annotations

from pathlib import Path

from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.tasks._audiobench import load_audiobench

SUMMARY = "2,271 questions of English listening tests (the Hub, or --data with its parquet files)"
HUB_ID = "AudioLLMs/cn_college_listen_mcq_test"
PUBLISHED = {"original": 52.91, "speechprune": 62.86}


def load(data: Path | None, *, offline: bool) -> Benchmark:
    """From the Hub, or from `data`. Errors as in `load_audiobench`."""
    return load_audiobench("cn-college-listen", HUB_ID, data, offline, PUBLISHED)
