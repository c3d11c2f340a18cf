"""the 401 of SPIRAL that Qwen2-Audio fails, cut at 30 s (--data FOLDER, as published)."""

from __future__ import annotations

from typing import ClassVar

from speechprune_cli.bench.tasks._spiral import PublishedSpiral


class SpiralH(PublishedSpiral):
    """SPIRAL-H: the 401 samples of SPIRAL that Qwen2-Audio fails when it hears 30 seconds only."""

    name, index = "spiral-h", "data_h.jsonl"
    published: ClassVar = {
        "original": 0.0, "full": 43.6, "phase1 0.2": 48.13, "phase2 0.2": 72.45,
        "random 0.2": 21.45, "random 0.4": 22.19, "random 0.6": 21.45, "random 0.8": 23.19,
        "crop 0.2": 48.13, "crop 0.4": 41.90, "crop 0.6": 35.41, "crop 0.8": 33.67,
        "speechprune 0.2": 81.64, "speechprune 0.4": 76.43,
        "speechprune 0.6": 63.77, "speechprune 0.8": 46.15,
    }  # fmt: skip
