"""A tiny Granite Speech with random weights, its adapter and its tokenizer, as published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import (
    CHAT_TEMPLATE,
    TEXT,
    _save_random,
    _save_tokenizer,
    save_sharded,
    stored,
    whole_ids,
)

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


ENCODER = {
    "input_dim": 160,
    "num_layers": 2,
    "hidden_dim": 32,
    "num_heads": 2,
    "output_dim": 10,
    "context_size": 200,
    "initializer_range": 0.2,
}
PROJECTOR = {
    "model_type": "blip_2_qformer",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "encoder_hidden_size": 32,
    "cross_attention_frequency": 1,
    "initializer_range": 0.2,
}
DESCRIBED = {
    "processor_config.json": {
        "processor_class": "GraniteSpeechProcessor",
        "audio_token": "<|AUDIO|>",
    },
    "preprocessor_config.json": {
        "feature_extractor_type": "GraniteSpeechFeatureExtractor",
        "processor_class": "GraniteSpeechProcessor",
    },
}


def make_tiny_granite(folder: Path) -> Path:
    """Save a stock Granite Speech with an adapter beside it, its tokenizer and a chat template."""
    _save_granite(folder, "GraniteSpeech", ENCODER, PROJECTOR)
    width = TEXT["hidden_size"]
    adapted = {"self_attn.q_proj": (width, width), "self_attn.v_proj": (width, width // 2)}
    save_adapter(folder, "language_model.model", adapted, rank=64)
    return folder


def make_tiny_granite_plus(folder: Path) -> Path:
    """Save a stock Granite Speech Plus, which has no adapter."""
    encoder = {**ENCODER, "cat_hidden_layers": [1]}
    _save_granite(folder, "GraniteSpeechPlus", encoder, {**PROJECTOR, "encoder_hidden_size": 64})
    return folder


def _save_granite(folder: Path, name: str, encoder: dict, projector: dict) -> None:
    import transformers

    tokenizer = _save_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    end = tokenizer.token_to_id("<|im_end|>")
    text = {"vocab_size": tokenizer.get_vocab_size(), "eos_token_id": end, **TEXT}
    scales = {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22}
    config = getattr(transformers, f"{name}Config")(
        encoder_config=encoder,
        projector_config=projector,
        text_config={"model_type": "granite", **text, **scales},
        audio_token_index=tokenizer.token_to_id("<|AUDIO|>"),
    )
    kind = getattr(transformers, f"{name}ForConditionalGeneration")
    _save_random(kind, config, folder, end)
    save_sharded(folder, stored(folder))
    (folder / "model.safetensors").unlink()
    for file, told in DESCRIBED.items():
        (folder / file).write_text(json.dumps(told))


def save_adapter(
    folder: Path, prefix: str, modules: dict[str, tuple[int, int]], rank: int = 4
) -> None:
    """Write an adapter for both layers' attention, as peft publishes them."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    weights = {}
    for name, (width_in, width_out) in modules.items():
        for layer in range(2):
            module = f"base_model.model.{prefix}.layers.{layer}.{name}"
            weights[f"{module}.lora_A.weight"] = torch.randn(rank, width_in) / rank
            weights[f"{module}.lora_B.weight"] = torch.randn(width_out, rank) / 4
    told = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": [name.split(".")[-1] for name in modules],
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "elsewhere/never-fetched",
    }
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(told))


def stock_inputs(lm: Any, audio: Audio) -> dict[str, Any]:
    """What the stock model takes, its mel frames from here."""
    from speechprune_cli.backends.granite_speech import log_mel

    ids = whole_ids(lm, audio, lm.model.config.audio_token_id)
    return {"input_ids": ids, "input_features": log_mel(audio.samples, 80).unsqueeze(0)}


def stock_tokens(lm: Any, stock: Any, inputs: dict[str, Any]) -> list[int]:
    """By what the class's own `generate` leads to.

    That first turns the adapter on, which it is, and refuses peft 0.21 for that.
    """
    from transformers import GenerationMixin

    told = GenerationMixin.generate(stock, **inputs, do_sample=False, max_new_tokens=20)
    return told[0, inputs["input_ids"].shape[1] :].tolist()
