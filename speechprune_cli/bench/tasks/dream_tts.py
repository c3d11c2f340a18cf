"""1,913 questions about spoken dialogues (the Hub, or --data with its parquet files)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.tasks._audiobench import load_audiobench
from speechprune_cli.bench.tasks.base import Task


class DreamTts(Task):
    """DREAM-TTS: questions about spoken dialogues, from AudioBench."""

    published: ClassVar = {"original": 53.69, "speechprune": 65.19}

    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """From the Hub, or from `data`. Errors as in `load_audiobench`."""
        return load_audiobench(
            "dream-tts", "AudioLLMs/dream_tts_mcq_test", data, offline, self.published
        )
