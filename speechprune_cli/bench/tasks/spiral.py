"""1,012 spoken lectures, meetings and conversations (--data FOLDER, as published)."""

from __future__ import annotations

from typing import ClassVar

from speechprune_cli.bench.tasks._spiral import PublishedSpiral


class Spiral(PublishedSpiral):
    """SPIRAL: 1,012 spoken lectures, meetings and conversations, each with one telling detail."""

    name, index = "spiral", "data.jsonl"
    published: ClassVar = {
        "original": 60.38,
        "random 0.2": 42.49, "random 0.4": 42.89, "random 0.6": 42.39, "random 0.8": 45.26,
        "crop 0.2": 65.71, "crop 0.4": 62.45, "crop 0.6": 58.20, "crop 0.8": 55.83,
        "speechprune 0.2": 89.23, "speechprune 0.4": 85.97,
        "speechprune 0.6": 75.89, "speechprune 0.8": 62.45,
    }  # fmt: skip
