"""A tiny Ultravox with random weights, as it is published: its text model is another's.

Names of weights are those of the published `model.safetensors` (`audio_tower.*`,
`multi_modal_projector.*`), as `ultravox_model.py` of github.com/fixie-ai/ultravox makes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_diva import WHISPER, make_tiny_whisper, save_sharded
from tiny_models import CHAT_TEMPLATE, TEXT, _save_tokenizer, make_tiny_reader

INNER = 48  # width of the projector


def make_tiny_ultravox(
    folder: Path, text_family: str = "llama", version: str = "0.5", **told: Any
) -> Path:
    """Version 0.5 has an encoder of its own and a norm in the middle; 0.4 has neither."""
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    _save_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}))
    make_tiny_reader(folder.parent / "text-tiny", text_family)
    config: dict[str, Any] = {
        "model_type": "ultravox",
        "architectures": ["UltravoxModel"],
        "auto_map": {"AutoModel": "ultravox_model.UltravoxModel"},
        "audio_latency_block_size": None,
        "hidden_size": INNER,
        "projector_act": "swiglu",
        "stack_factor": 8,
        "text_model_id": "meta-llama/text-tiny",
        **told,
    }
    torch.manual_seed(2)
    inputs, outputs = 8 * WHISPER["d_model"], TEXT["hidden_size"]
    weights = {
        "ln_pre.weight": torch.rand(inputs) + 0.5,
        "linear_1.weight": torch.randn(INNER, inputs) / inputs**0.5,
        "linear_2.weight": torch.randn(outputs, INNER // 2) / INNER**0.5,
    }
    weights = {f"multi_modal_projector.{name}": each for name, each in weights.items()}
    if version == "0.5":
        config |= {"audio_config": {**WHISPER, "model_type": "whisper"}, "audio_model_id": None}
        config["projector_ln_mid"] = True
        weights["multi_modal_projector.ln_mid.weight"] = torch.rand(INNER // 2) + 0.5
        encoder = WhisperEncoder(WhisperConfig(**WHISPER))
        weights |= {f"audio_tower.{name}": each for name, each in encoder.state_dict().items()}
    else:
        config["audio_model_id"] = "openai/whisper-tiny"
        weights["multi_modal_projector.ln_post.weight"] = torch.rand(outputs) + 0.5
        make_tiny_whisper(folder.parent / "whisper-tiny")
    (folder / "config.json").write_text(json.dumps(config))
    save_sharded(folder, weights)
    return folder
