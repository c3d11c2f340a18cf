"""What fits this machine's memory."""

from __future__ import annotations

import os
from collections.abc import Sequence

from speechprune_cli.config import Preset

ROOM = 1.5e9  # bytes beside the weights: libraries, the recording, the cache of a prompt


def total_memory() -> int | None:
    """Bytes of this machine; None where the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpu_dtypes() -> tuple[str, str]:
    """What a model can run in on this processor; the first is what `--dtype auto` takes."""
    from speechprune_cli.device import bfloat16_unit

    return ("bfloat16", "float32") if bfloat16_unit() else ("float32", "bfloat16")


def fitting_dtype(preset: Preset, memory: int) -> str | None:
    """In which a model runs best on this processor with so many bytes; None where in none."""
    for dtype in cpu_dtypes():
        if dtype in preset.weights_gb and preset.weights_gb[dtype] * 1e9 + ROOM <= memory:
            return dtype
    return None


def advice(presets: Sequence[Preset], memory: int) -> str:
    """One line for people: which model of those that read transcripts to take here."""
    readers = sorted(
        (preset for preset in presets if preset.stored_parts),
        key=lambda preset: preset.parameters or 0,
        reverse=True,
    )
    machine = f"this machine has {memory / 1e9:.1f} GB of memory"
    fits = {preset.name: fitting_dtype(preset, memory) for preset in readers}
    best = cpu_dtypes()[0]
    wide = next((name for name, dtype in fits.items() if dtype == best), None)
    narrow = next((name for name, dtype in fits.items() if dtype), None)
    if narrow is None:
        return f"{machine}: take nano"
    if wide == narrow:
        return f"{machine}: take {wide}"
    alone = "in bfloat16 alone, slow on processors without AMX-BF16 or AVX512-BF16"
    if wide is None:
        return f"{machine}: take nano, or {narrow} with --dtype bfloat16 ({alone})"
    return f"{machine}: take {wide}; {narrow} fits {alone}"
