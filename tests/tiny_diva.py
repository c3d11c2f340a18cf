"""A tiny DiVA with random weights, as it is published: three folders beside each other.

Names of weights are those that the published `modeling_diva.py` reads (`query_tokens`,
`projection.*`, stored transposed, `connector.*`); Whisper's and Llama's are their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_models import AUDIO, TEXT, _save_random, make_tiny_reader

WHISPER = {
    **AUDIO,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 48,
    "vocab_size": 60,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def make_tiny_whisper(folder: Path, **told: Any) -> Path:
    """Save a whole Whisper and its feature extractor."""
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    _save_random(WhisperForConditionalGeneration, WhisperConfig(**{**WHISPER, **told}), folder)
    WhisperFeatureExtractor(feature_size=WHISPER["num_mel_bins"]).save_pretrained(folder)
    return folder


def save_sharded(folder: Path, weights: dict[str, Any]) -> None:
    """In two files, with an index."""
    from safetensors.torch import save_file

    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[::2]}
    parts["model-00002-of-00002.safetensors"] = names[1::2]
    for file, held in parts.items():
        save_file({name: weights[name].contiguous() for name in held}, folder / file)
    index = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def make_tiny_diva(folder: Path, joined: int = 1, queries: int = 112) -> Path:
    """Save its own weights in `folder`; Whisper's and Llama's are beside it."""
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperDecoder

    folder.mkdir(parents=True)
    make_tiny_whisper(folder.parent / "whisper-tiny", max_target_positions=queries)
    make_tiny_reader(folder.parent / "llama-tiny", "llama")
    config = {
        "model_type": "diva",
        "reference_encoder": "openai/whisper-tiny",
        "reference_decoder": "meta-llama/llama-tiny",
        "architectures": ["DiVAModel"],
        "auto_map": {"AutoModel": "modeling_diva.DiVAModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    width = WHISPER["d_model"]
    connector = WhisperDecoder(WhisperConfig(**{**WHISPER, "max_target_positions": queries}))
    save_sharded(
        folder,
        {
            **{f"connector.{name}": each for name, each in connector.state_dict().items()},
            "query_tokens": torch.randn(queries, width),
            "projection.weight": torch.randn(joined * width, TEXT["hidden_size"]) / width**0.5,
            "projection.bias": torch.randn(TEXT["hidden_size"]),
        },
    )
    return folder
