"""1,913 questions about spoken dialogues (the Hub, or --data with its parquet files)."""

from __future__ import annotations

from typing import ClassVar

from speechprune_cli.bench.tasks._audiobench import AudioBench


class DreamTts(AudioBench):
    """DREAM-TTS: questions about spoken dialogues, from AudioBench."""

    name = "dream-tts"
    hub_id = "AudioLLMs/dream_tts_mcq_test"
    published: ClassVar = {"original": 53.69, "speechprune": 65.19}
