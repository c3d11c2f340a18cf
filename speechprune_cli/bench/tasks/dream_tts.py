"""DREAM-TTS: questions about spoken dialogues, from AudioBench."""

from __future__ import annotations

from pathlib import Path

from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.tasks._audiobench import load_audiobench

SUMMARY = "1,913 questions about spoken dialogues (the Hub, or --data with its parquet files)"
HUB_ID = "AudioLLMs/dream_tts_mcq_test"
PUBLISHED = {"original": 53.69, "speechprune": 65.19}


def load(data: Path | None, *, offline: bool) -> Benchmark:
    """From the Hub, or from `data`. Errors as in `load_audiobench`."""
    return load_audiobench("dream-tts", HUB_ID, data, offline, PUBLISHED)
