"""Where things are kept on this machine.

    <cache>/tokens        encoded recordings (`cache.py`)
    <cache>/kokoro        voices that `build --fetch-voices` gets
    <cache>/whisper-base  the recogniser of the check `wer`
    <cache>/benchmarks    recordings unpacked from data sets

`<cache>` is SPEECHPRUNE_CACHE_DIR, or the user's cache folder as the system has it.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir

CACHE_VARIABLE = "SPEECHPRUNE_CACHE_DIR"


def cache_folder(part: str) -> Path:
    """The folder of a part, which need not exist yet."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_dir("speechprune")) / part
