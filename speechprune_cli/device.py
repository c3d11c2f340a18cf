"""Where a model runs: device, dtype, memory, and what to say when memory runs out."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from speechprune_cli.errors import OutOfMemoryError, UsageError

GIB = 2**30
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# as torch's CPU allocator (Windows, Linux) and its GPU back ends put it
OUT_OF_MEMORY = re.compile(r"not enough memory|out of memory|can't allocate memory", re.I)
QUANTISATIONS = ("none", "int8", "nf4")


@dataclass(frozen=True)
class Placement:
    """Where and how a model's weights are held."""

    device: torch.device
    dtype: torch.dtype
    quantize: str
    decisions: tuple[str, ...]  # one line for every choice that was left to us, with its reason
    decoder: bool = True  # False: only what encoding and pruning need, as a server decodes


def place(device: str = "auto", dtype: str = "auto", quantize: str = "none") -> Placement:
    """Turn the three options into a placement. Raises `UsageError` for what this machine lacks."""
    chosen_device, device_reason = _choose_device(device)
    chosen_dtype, dtype_reason = _choose_dtype(dtype, chosen_device)
    _check_quantize(quantize, chosen_device)
    decisions = tuple(reason for reason in (device_reason, dtype_reason) if reason)
    return Placement(chosen_device, chosen_dtype, quantize, decisions)


def _choose_device(name: str) -> tuple[torch.device, str]:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"device cuda: found {torch.cuda.get_device_name()}"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "device mps: found an Apple GPU"
        return torch.device("cpu"), "device cpu: found no GPU that this torch can use"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"unknown device '{name}': auto, cpu, cuda, cuda:N or mps")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"no device {name}: this torch sees {torch.cuda.device_count()} CUDA GPUs")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no device mps: this torch sees no Apple GPU")
    return device, ""


def _choose_dtype(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    if name in DTYPES:
        return DTYPES[name], ""
    if name != "auto":
        raise UsageError(f"unknown dtype '{name}': auto, {', '.join(DTYPES)}")
    if device.type == "cpu":
        if unit := bfloat16_unit():
            return torch.bfloat16, f"dtype bfloat16: this processor computes it by {unit}"
        return torch.float32, "dtype float32: this processor has no unit for bfloat16"
    if device.type == "mps":
        return torch.float16, "dtype float16: half the memory on an Apple GPU"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "dtype bfloat16: this GPU computes it natively"
    return torch.float16, "dtype float16: this GPU has no native bfloat16"


def bfloat16_unit() -> str | None:
    """The processor's unit for bfloat16; without one, float32 is faster. Never a measurement: the
    same machine always chooses the same."""
    features = torch.cpu.get_capabilities()
    names = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16"}
    return next((name for feature, name in names.items() if features.get(feature)), None)


def _check_quantize(quantize: str, device: torch.device) -> None:
    if quantize not in QUANTISATIONS:
        raise UsageError(f"unknown quantisation '{quantize}': {', '.join(QUANTISATIONS)}")
    if quantize == "none":
        return
    if device.type == "mps":
        raise UsageError(f"--quantize {quantize} runs on CUDA GPUs and CPUs: say --device cpu")
    if missing := [name for name in ("bitsandbytes", "accelerate") if not find_spec(name)]:
        names, cure = " and ".join(missing), "pip install 'speechprune[quantize]'"
        raise UsageError(f"--quantize {quantize} needs {names}: {cure}")


def synchronize(device: torch.device) -> None:
    """Wait for queued work, so that a clock read next is honest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be had on `device`; None where the platform does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserved
    return _proc_bytes("meminfo", "MemAvailable") if device.type == "cpu" else None


def _proc_bytes(file: str, name: str) -> int | None:
    """What Linux tells in a file of `/proc`; None elsewhere."""
    path = Path("/proc", file)
    found = re.search(rf"{name}:\s+(\d+) kB", path.read_text()) if path.exists() else None
    return int(found[1]) * 1024 if found else None


class PeakMemory:
    """Peak memory since this object was made: of the GPU, or of the process on Linux.

    `bytes()` is 0 where the platform does not tell. Where a container forbids the reset, it is
    the process's peak since its start.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        """The peak so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return _proc_bytes("self/status", "VmHWM") or 0


class Stopwatch:
    """Seconds between laps, with the device's queued work waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, or since the start."""
        synchronize(self.device)
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds


@contextmanager
def memory_guard(task: str, needed: int, device: torch.device, hint: str) -> Iterator[None]:
    """Run `task`, refusing at once what cannot fit and naming the cure when memory runs out.

    `needed` is an estimate in bytes, beside what is held already. Raises `OutOfMemoryError`.
    """
    free = free_bytes(device)
    have = "" if free is None else f", {free / GIB:.1f} GiB are free"
    estimate = f"about {needed / GIB:.1f} GiB"
    message = f"out of memory on {device}: {task} needs {estimate}{have}; try {hint}"
    if free is not None and needed > free:
        raise OutOfMemoryError(message)
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(message) from error
    except RuntimeError as error:
        if not OUT_OF_MEMORY.search(str(error)):
            raise
        raise OutOfMemoryError(message) from error
