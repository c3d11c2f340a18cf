"""Loading the stock model's weights, and nothing but them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.device import Placement, memory_guard
from speechprune_cli.errors import ModelError, one_line

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM

BYTES_PER_QUANTISED_WEIGHT = {"int8": 1.23, "nf4": 0.89}
"""Measured on Qwen2-Audio-7B, whose audio encoder, projector and head stay in 16 bits."""


def load_weights(family: type[SpeechLM], checkpoint: Checkpoint, placement: Placement) -> Any:
    """The stock model with every weight in place, ready to run on its device.

    Raises `ModelError` where files and configuration do not belong together, `OutOfMemoryError`
    where the device has no room.
    """
    device, quantize = placement.device, placement.quantize
    per_weight = BYTES_PER_QUANTISED_WEIGHT.get(quantize, placement.dtype.itemsize)
    needed = int(checkpoint.parameters * per_weight)
    cuda = device.type == "cuda"
    hint = "--quantize nf4 or --device cpu" if cuda else "--dtype bfloat16 or --model nano"
    with memory_guard(f"loading {checkpoint.source}", needed, device, hint):
        try:
            model, report = family.model_class.from_pretrained(
                checkpoint.folder,
                dtype=placement.dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                output_loading_info=True,
                **_quantisation(family, placement),
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"cannot load {checkpoint.folder}: {one_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{checkpoint.folder}: {len(missing)} weights missing, as {missing[0]}")
    if wrong := sorted(report["mismatched_keys"]):
        name, stored, expected = wrong[0]
        raise ModelError(
            f"{checkpoint.folder}: {name} is {list(stored)}, config.json says {list(expected)}"
        )
    return (model if quantize != "none" else model.to(device)).eval()


def _quantisation(family: type[SpeechLM], placement: Placement) -> dict[str, Any]:
    if placement.quantize == "none":
        return {}
    config = BitsAndBytesConfig(
        load_in_8bit=placement.quantize == "int8",
        load_in_4bit=placement.quantize == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=placement.dtype,
        llm_int8_skip_modules=family.quantise_skip,
    )
    return {"quantization_config": config, "device_map": {"": placement.device}}


def quiet_transformers() -> None:
    """Errors only, and no progress bar: what matters is said by the command."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
