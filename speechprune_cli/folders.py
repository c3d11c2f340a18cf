"""Where things are kept on this machine.

    <cache>/tokens        encoded recordings (`cache.py`)
    <cache>/kokoro        voices that `build --fetch-voices` gets
    <cache>/stored        parts of presets that `models get` fetched (`weights/stored.py`)
    <cache>/models        the user's own models, converted once (`weights/finding.py`)
    <cache>/run           sockets of `serve`, without XDG_RUNTIME_DIR (`serving/sockets.py`)
    <cache>/benchmarks    recordings unpacked from data sets
    <cache>/probes        right answers to compare servers with (`remote/probe.py`)
    <config>/user.yaml    the user's default model (`config.py`)

`<cache>` is SPEECHPRUNE_CACHE_DIR, or the user's cache folder as the system has it, `<config>`
SPEECHPRUNE_CONFIG_DIR, or the user's configuration folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir, user_config_dir

CACHE_VARIABLE = "SPEECHPRUNE_CACHE_DIR"
CONFIG_VARIABLE = "SPEECHPRUNE_CONFIG_DIR"


def cache_folder(part: str) -> Path:
    """The folder of a part, which need not exist yet."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_dir("speechprune")) / part


def config_folder() -> Path:
    """The folder of what the user has chosen, which need not exist yet."""
    return Path(os.environ.get(CONFIG_VARIABLE) or user_config_dir("speechprune"))
