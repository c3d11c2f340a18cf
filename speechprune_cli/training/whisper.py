"""Whisper's pretrained audio encoder (MIT, OpenAI) from a ggml file, as Qwen2-Audio's tower.

The two share their architecture; Qwen2-Audio adds an average pooling by two before the last norm.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2AudioEncoderConfig
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from speechprune_cli.errors import UsageError

GGML_MAGIC = 0x67676D6C
BASE_EN_SHA1 = "137c40403d78fd54d454da0f9bd998f78703390c"
"""As whisper.cpp publishes it for `ggml-base.en.bin`."""

RENAMED = (
    ("blocks.", "layers."),
    ("attn.query.", "self_attn.q_proj."),
    ("attn.key.", "self_attn.k_proj."),
    ("attn.value.", "self_attn.v_proj."),
    ("attn.out.", "self_attn.out_proj."),
    ("attn_ln.", "self_attn_layer_norm."),
    ("mlp.0.", "fc1."),
    ("mlp.2.", "fc2."),
    ("mlp_ln.", "final_layer_norm."),
    ("ln_post.", "layer_norm."),
    ("positional_embedding", "embed_positions.weight"),
)


def load_tower(path: Path) -> Qwen2AudioEncoder:
    """The encoder of whisper.cpp's `base.en` as an evaluation-mode float32 tower.

    Raises UsageError where the file is not byte for byte the published one.
    """
    if hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest() != BASE_EN_SHA1:
        raise UsageError(f"{path}: not whisper.cpp's ggml-base.en.bin (its SHA-1 differs)")
    with path.open("rb") as file:
        width, heads, layers, mels = _read_header(file)
        state = dict(_encoder_tensors(file))
    config = Qwen2AudioEncoderConfig(
        num_mel_bins=mels,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        d_model=width,
    )
    tower = Qwen2AudioEncoder(config)
    tower.load_state_dict(state)
    return tower.eval()


def _read_header(file: BinaryIO) -> tuple[int, int, int, int]:
    magic, *sizes = struct.unpack("<12i", file.read(48))
    if magic != GGML_MAGIC:
        raise UsageError(f"{file.name}: not a ggml file")
    mels, bins = struct.unpack("<2i", file.read(8))
    file.seek(4 * mels * bins, 1)
    (words,) = struct.unpack("<i", file.read(4))
    for _ in range(words):
        (length,) = struct.unpack("<I", file.read(4))
        file.seek(length, 1)
    _, _, width, heads, layers, *_ = sizes
    return width, heads, layers, mels


def _encoder_tensors(file: BinaryIO):
    while header := file.read(12):
        dims, length, kind = struct.unpack("<3i", header)
        shape = struct.unpack(f"<{dims}i", file.read(4 * dims))[::-1]
        name = file.read(length).decode()
        dtype = np.dtype(np.float16 if kind else np.float32)
        data = np.frombuffer(file.read(dtype.itemsize * int(np.prod(shape))), dtype)
        if name.startswith("encoder."):
            yield _rename(name.removeprefix("encoder.")), _as_tensor(name, data.reshape(shape))


def _rename(name: str) -> str:
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def _as_tensor(name: str, data: np.ndarray) -> Tensor:
    convolution_bias = name.startswith("encoder.conv") and name.endswith("bias")
    return torch.from_numpy(data.reshape(-1) if convolution_bias else data).float()
