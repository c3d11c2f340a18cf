"""A tiny Phi-4-multimodal with random weights, its adapter and its tokenizer, as published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_granite import save_adapter
from tiny_models import TEXT, _save_random, _save_tokenizer, whole_ids

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


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
    "mlp.gate_up_proj": (64, 256),
    "mlp.down_proj": (128, 64),
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


def stock_model(lm: Any) -> Any:
    """As transformers' documentation loads it."""
    from transformers import Phi4MultimodalForCausalLM

    folder = lm.checkpoint.folder
    model = Phi4MultimodalForCausalLM.from_pretrained(folder, dtype=lm.dtype).eval()
    beside = {"subfolder": "speech-lora"}
    model.load_adapter(str(folder), adapter_name="speech", adapter_kwargs=beside)
    return model


def stock_inputs(lm: Any, audio: Audio) -> dict[str, Any]:
    """What the stock model takes."""
    from transformers import Phi4MultimodalFeatureExtractor

    ids = whole_ids(lm, audio, lm.model.config.audio_config.audio_token_id)
    features = Phi4MultimodalFeatureExtractor()(
        audio.samples, sampling_rate=16_000, return_tensors="pt"
    )
    return {"input_ids": ids, **features}


def given(stock: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the stock model's layers read of the whole prompt: it is its decoder that hears."""
    import torch

    seen: list[Any] = []
    hook = stock.model.layers[0].register_forward_pre_hook(
        lambda _, inputs, __: seen.append(inputs[0]), with_kwargs=True
    )
    with torch.no_grad():
        stock(**inputs)
    hook.remove()
    return {"inputs_embeds": seen[0]}


def stock_tokens(lm: Any, stock: Any, inputs: dict[str, Any], count: int = 20) -> list[int]:
    """The likeliest token again and again, all read anew each time.

    As `generate` means to do where a prompt becomes a long one; that of transformers 5.24 fails
    beyond the limit, as it takes the cache away and leaves the last token alone to be read.
    """
    import torch

    found: list[int] = []
    with torch.no_grad():
        embeds = given(stock, inputs)["inputs_embeds"]
        while len(found) < count and not set(found) & lm.end_tokens:
            found.append(int(stock(inputs_embeds=embeds).logits[0, -1].argmax()))
            embeds = torch.cat([embeds, lm.embed(found[-1:])[None]], dim=1)
    return found
