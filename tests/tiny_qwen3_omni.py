"""A tiny Qwen3-Omni with random weights, in files as Qwen publishes the 30B-A3B models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import AUDIO, TEXT, head_dim
from tiny_qwen2_5_omni import (
    PICTURES,
    random_tensors,
    save_extractor,
    save_omni_tokenizer,
    save_published,
    thinker_inputs,
)

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


WORDS = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
AUT = {**AUDIO, "n_window": 50, "n_window_infer": 800, "downsample_hidden_size": 8}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


def make_tiny_qwen3_omni(folder: Path) -> Path:
    """Save a stock Thinker with random weights among those of a Talker that nobody loads.

    Experts have a tensor each, as in the published index (`thinker.model.layers.0.mlp.experts.0.
    gate_proj.weight`); transformers joins them (`"qwen2_moe"` in its `conversion_mapping.py`).
    """
    from transformers import (
        Qwen3OmniMoeConfig,
        Qwen3OmniMoeThinkerConfig,
        Qwen3OmniMoeThinkerForConditionalGeneration,
    )

    tokenizer = save_omni_tokenizer(folder, WORDS)
    thinker = Qwen3OmniMoeThinkerConfig(
        audio_config={**AUT, "output_dim": TEXT["hidden_size"]},
        text_config={
            **TEXT,
            **EXPERTS,
            "head_dim": head_dim(),
            "vocab_size": tokenizer.get_vocab_size(),
            "tie_word_embeddings": False,
        },
        vision_config={
            **PICTURES,
            "out_hidden_size": TEXT["hidden_size"],
            "num_position_embeddings": 16,
            "image_size": 64,
            "apply_vit_abs_pos_embed": True,
            "deepstack_visual_indexes": [0],
        },
        **{f"{name}_id": tokenizer.token_to_id(WORDS[name]) for name in list(WORDS)[:3]},
        vision_start_token_id=tokenizer.token_to_id(WORDS["vision_bos_token"]),
        vision_end_token_id=tokenizer.token_to_id(WORDS["vision_eos_token"]),
    )
    tensors = random_tensors(Qwen3OmniMoeThinkerForConditionalGeneration, thinker)
    save_published(folder, tensors, ("talker.model", "code2wav.pre_transformer"))
    config = Qwen3OmniMoeConfig(thinker_config=thinker.to_dict())
    config.architectures = ["Qwen3OmniMoeForConditionalGeneration"]
    config.save_pretrained(folder)
    save_extractor(folder, "Qwen3OmniMoeProcessor")
    return folder


def stock_inputs(lm: Any, audio: Audio) -> Any:
    """What the stock Thinker takes."""
    from transformers import Qwen3OmniMoeProcessor

    return thinker_inputs(Qwen3OmniMoeProcessor, lm, audio)
