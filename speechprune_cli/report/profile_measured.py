"""What `profile --measure` found, as tables.

In JSON and CSV all times are seconds, each with its median and the quartiles `low` and `high`;
the fields of a row of times are those of `profiler.measured.Measured`, and `machine` tells what
they were measured on.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.backends.shape import Shape
from speechprune_cli.methods import FULL, ORIGINAL
from speechprune_cli.profiler.measured import Measured, Profile, Timing
from speechprune_cli.profiler.setting import Setting
from speechprune_cli.provenance import processor, versions
from speechprune_cli.report.profile_tables import about, of_kind
from speechprune_cli.table import Table, or_dash
from speechprune_cli.units import amount, factor, gigabytes, precise

REFERENCES = (FULL.label, ORIGINAL.label)  # what the speed of the others is a multiple of


def measured_tables(
    shape: Shape, setting: Setting, profile: Profile, machine: dict[str, Any]
) -> list[Table]:
    """Times and memory; what they come to beside each other; the rate of operations."""
    title = about(shape, setting)
    fits = [row for row in profile.rows if row.error is None]
    tables = [time_table(title, profile, machine)]
    if fits:
        tables += [ratio_table(title, fits), rate_table(title, fits, profile.peak_flops, machine)]
    return of_kind("measured", tables)


def time_table(title: str, profile: Profile, machine: dict[str, Any]) -> Table:
    """Median times of every stage and the peak of memory."""
    rows = profile.rows
    columns: dict[str, Callable[[Measured], str]] = {
        "condition": lambda row: row.condition,
        "audio\ntokens": lambda row: f"{row.audio_tokens:,}",
        "prompt\ntokens": lambda row: f"{row.length:,}",
        "encode": lambda row: or_dash(timing, row.encode),
        "prune": lambda row: or_dash(timing, row.prune),
        "prefill": lambda row: or_dash(timing, row.prefill),
        "first\ntoken": lambda row: or_dash(timing, row.first_token),
        "decode,\na token": lambda row: or_dash(timing, row.decode),
        "peak\nGB": lambda row: or_dash(gigabytes, row.peak_bytes or None),
    }
    if any(row.reserved_bytes is not None for row in rows):
        columns["reserved\nGB"] = lambda row: or_dash(gigabytes, row.reserved_bytes)
    where = "allocated on the GPU" if machine["gpu"] else "resident in the whole process"
    caption = [
        f"On {described(machine)}.",
        f"Medians of {machine['repeats']} rounds after one to warm up, half the interquartile "
        "range behind ±; synchronised.",
        "Prune: choosing the tokens and putting the prompt together. Prefill: reading it, up to "
        "the first logits.",
        "First token: encode + prune + prefill.",
        f"Peak: {where} from pruning on, weights included; in decimal GB. Encoding peaked at "
        f"{or_dash(gigabytes, profile.encode_peak_bytes or None)} GB.",
        *(f"{row.condition}: {row.error}." for row in rows if row.error),
    ]

    def fields(row: Measured) -> dict[str, Any]:
        return {**asdict(row), "machine": machine}

    return Table.of("times", f"{title}: times", columns, rows, fields, caption)


def ratio_table(title: str, rows: Sequence[Measured]) -> Table:
    """How much faster than everything, than the first window, and than the ideal."""
    references = {row.condition: row for row in rows}
    columns: dict[str, Callable[[Measured], str]] = {
        "condition": lambda row: row.condition,
        "prune +\nprefill": lambda row: or_dash(timing, row.pruned_prefill),
    }
    columns |= {
        f"faster\nthan {name}": partial(_faster, references[name], "pruned_prefill")
        for name in REFERENCES
        if name in references
    }
    columns["over the\nideal"] = lambda row: or_dash(factor, row.over_ideal)
    if FULL.label in references:
        columns["first token\nfaster than full"] = partial(
            _faster, references[FULL.label], "first_token"
        )
    caption = [
        "Faster: medians of prune + prefill divided by each other; encoding is in the last column "
        "alone, as a second question does not repeat it.",
        "Over the ideal: (prune + prefill) / a prefill of as many tokens without pruning, timed "
        "beside it; median of the rounds.",
    ]

    def fields(row: Measured) -> dict[str, Any]:
        return {
            "condition": row.condition,
            "prune_and_prefill": asdict(row)["pruned_prefill"],
            **{
                f"faster_than_{name}": ratio(reference.pruned_prefill, row.pruned_prefill)
                for name, reference in references.items()
                if name in REFERENCES
            },
            "over_ideal": row.over_ideal,
        }

    return Table.of("ratios", f"{title}: speed-up", columns, rows, fields, caption)


def rate_table(
    title: str, rows: Sequence[Measured], peak_flops: float, machine: dict[str, Any]
) -> Table:
    """How near the prefill comes to the device's fastest matrix product."""

    def share(row: Measured) -> float:
        return achieved(row) / peak_flops

    columns: dict[str, Callable[[Measured], str]] = {
        "condition": lambda row: row.condition,
        "counted:\nTFLOPs": lambda row: amount(row.prefill_flops / 1e12),
        "measured:\nprefill": lambda row: or_dash(timing, row.prefill),
        "TFLOP/s": lambda row: amount(achieved(row) / 1e12),
        "of matmul\npeak": lambda row: f"{100 * share(row):.0f}%",
    }
    caption = [
        "Counted operations of the prefill / its time. Linear layers, attention over the causal "
        "half of the pairs, lm_head at the last position.",
        f"Matmul peak: {amount(peak_flops / 1e12)} TFLOP/s, the fastest product of large "
        f"{machine['dtype']} matrices in this run.",
    ]

    def fields(row: Measured) -> dict[str, Any]:
        return {
            "condition": row.condition,
            "counted_prefill_tflops": row.prefill_flops / 1e12,
            "measured_prefill_seconds": row.prefill and row.prefill.median,
            "tflops_per_second": achieved(row) / 1e12,
            "matmul_peak_tflops_per_second": peak_flops / 1e12,
            "share_of_peak": share(row),
        }

    heading = f"{title}: counted operations over time"
    return Table.of("rates", heading, columns, rows, fields, caption)


def describe_machine(lm: SpeechLM, repeats: int) -> dict[str, Any]:
    """What the figures depend on beside the setting."""
    cuda = lm.device.type == "cuda"
    return {
        "gpu": torch.cuda.get_device_name(lm.device) if cuda else None,
        "device": str(lm.device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "dtype": str(lm.dtype).removeprefix("torch."),
        "quantize": lm.quantize,
        "attention": lm.attention_implementation,
        "weights": lm.revision,
        "repeats": repeats,
        "versions": {"python": platform.python_version(), **versions()},
    }


def described(machine: dict[str, Any]) -> str:
    """Device, dtype, attention and versions, in a line."""
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    device = machine["gpu"] or f"{threads} of {machine['processor']}"
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{device}, {machine['dtype']}, attention {machine['attention']}; {versions}"


def achieved(row: Measured) -> float:
    """Operations a second of the prefill."""
    return row.prefill_flops / row.prefill.median if row.prefill else 0.0


def ratio(slow: Timing | None, fast: Timing | None) -> float | None:
    """Of two medians."""
    return slow.median / fast.median if slow and fast else None


def _faster(reference: Measured, stage: str, row: Measured) -> str:
    return or_dash(factor, ratio(getattr(reference, stage), getattr(row, stage)))


def timing(time: Timing) -> str:
    """`127 ms ±3%`."""
    spread = (time.high - time.low) / 2 / time.median if time.median else 0
    return f"{precise(time.median)} ±{100 * spread:.0f}%"
