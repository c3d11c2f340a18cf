"""What numbers depend on: versions, the model, the machine."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.version import __version__

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM

LIBRARIES = ("torch", "transformers")


def versions() -> dict[str, str]:
    """Of this package and the two that compute, told without importing them."""
    return {"speechprune": __version__, **{name: version(name) for name in LIBRARIES}}


def processor() -> str:
    """The CPU's name where Linux tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def describe_model(model: SpeechLM) -> dict[str, Any]:
    """Which weights, where, in which precision."""
    return {
        "name": model.preset.name,
        "source": model.preset.source,
        "revision": model.revision,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
    }
