"""Conversions that are made once: a GGUF to safetensors, a Whisper to CTranslate2's format.

Only safetensors and GGUF are read; both hold numbers alone, and no code.
"""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager, redirect_stderr
from io import StringIO
from pathlib import Path

from speechprune_cli.checkpoint import UNREADABLE
from speechprune_cli.errors import ModelError, SpeechPruneError, one_line
from speechprune_cli.extras import need

BYTES_PER_PARAMETER = 3  # while one is converted to bfloat16: the weights, and half of them again
COPIED = ("tokenizer.json", "preprocessor_config.json")  # which faster-whisper looks for


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model, its tokenizer and its chat template into `folder`, in bfloat16.

    Takes about one and a half times the memory of the weights in bfloat16. Raises ModelError for
    a file that transformers cannot read, OutOfMemoryError where the memory is too small,
    SpeechPruneError where the disk refuses.
    """
    for package in ("gguf", "accelerate"):
        need(package, f"converting {gguf.name}", "mini")
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with _memory_for(gguf), redirect_stderr(StringIO()):  # transformers draws a bar of its own
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
                **source,
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    except (*UNREADABLE, RuntimeError, struct.error) as error:
        raise ModelError(f"{gguf}: no text model that can be read: {one_line(error)}") from error
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise SpeechPruneError(f"cannot write {folder}: {one_line(error)}") from error


def _memory_for(gguf: Path) -> AbstractContextManager[None]:
    """A guard of what a conversion takes."""
    import torch
    from gguf import GGUFReader

    from speechprune_cli.device import memory_guard

    count = sum(int(tensor.n_elements) for tensor in GGUFReader(gguf).tensors)
    needed = round(BYTES_PER_PARAMETER * count)
    return memory_guard(f"converting {gguf.name}", needed, torch.device("cpu"), "a smaller model")


def convert_whisper(checkpoint: Path, folder: Path) -> None:
    """Write a Whisper of transformers into `folder` as faster-whisper wants it, in float16.

    `checkpoint` holds safetensors. Raises ModelError for what is no Whisper.
    """
    need("ctranslate2", f"converting {checkpoint}", "mini")
    from ctranslate2.converters import TransformersConverter

    copied = [name for name in COPIED if (checkpoint / name).is_file()]
    try:
        converter = TransformersConverter(str(checkpoint), copy_files=copied)
        converter.convert(str(folder), quantization="float16", force=True)
    except (ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise ModelError(f"{checkpoint}: no Whisper that converts: {one_line(error)}") from error
