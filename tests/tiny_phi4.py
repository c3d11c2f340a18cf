"""A tiny Phi-4-multimodal with random weights, its adapter and its tokenizer, as published."""

from __future__ import annotations

from pathlib import Path

from tiny_granite import save_adapter
from tiny_models import TEXT, _save_random, _save_tokenizer

AUDIO = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_blocks": 2,
    "num_attention_heads": 2,
    "ext_pw_out_channel": 32,
    "depthwise_separable_out_channel": 32,
    "nemo_conv_channels": 8,
    "initializer_range": 0.2,
}
EYES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
LIMIT = 256  # positions, beyond which prompts are long: 4096 as published
ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.0, 1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
    "original_max_position_embeddings": LIMIT,
}
ADAPTED = {
    "self_attn.qkv_proj": (64, 128),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_up_proj": (64, 192),
    "mlp.down_proj": (96, 64),
}


def make_tiny_phi4(folder: Path) -> Path:
    """Save a stock Phi-4-multimodal, its tokenizer, and its adapter in a folder of its own."""
    from transformers import Phi4MultimodalConfig, Phi4MultimodalForCausalLM

    tokenizer = _save_tokenizer(folder, "<|user|>", "<|end|>", "<|assistant|>")
    end = tokenizer.token_to_id("<|end|>")
    config = Phi4MultimodalConfig(
        audio_config={**AUDIO, "audio_token_id": tokenizer.token_to_id("<|AUDIO|>")},
        vision_config={**EYES, "image_token_id": tokenizer.token_to_id("<|audio_bos|>")},
        vocab_size=tokenizer.get_vocab_size(),
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=[end],
        tie_word_embeddings=True,
        sliding_window=262144,
        rope_parameters=ROPE,
        original_max_position_embeddings=LIMIT,
        **TEXT,
    )
    _save_random(Phi4MultimodalForCausalLM, config, folder, end)
    save_adapter(folder / "speech-lora", "model", ADAPTED)
    return folder
