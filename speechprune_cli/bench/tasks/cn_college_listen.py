"""2,271 questions of English listening tests (the Hub, or --data with its parquet files)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.tasks._audiobench import load_audiobench
from speechprune_cli.bench.tasks.base import Task


class CnCollegeListen(Task):
    """CN-College-Listen: listening tests of Chinese colleges, in English, from AudioBench."""

    published: ClassVar = {"original": 52.91, "speechprune": 62.86}

    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """From the Hub, or from `data`. Errors as in `load_audiobench`."""
        return load_audiobench(
            "cn-college-listen",
            "AudioLLMs/cn_college_listen_mcq_test",
            data,
            offline,
            self.published,
        )
