"""2,271 questions of English listening tests (the Hub, or --data with its parquet files)."""

from __future__ import annotations

from typing import ClassVar

from speechprune_cli.bench.tasks._audiobench import AudioBench


class CnCollegeListen(AudioBench):
    """CN-College-Listen: listening tests of Chinese colleges, in English, from AudioBench."""

    name = "cn-college-listen"
    hub_id = "AudioLLMs/cn_college_listen_mcq_test"
    published: ClassVar = {"original": 52.91, "speechprune": 62.86}
