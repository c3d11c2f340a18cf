"""A tiny Gemma 4 with random weights and its tokenizer, saved as published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import TEXT, _save_random, _save_tokenizer, whole_ids

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "subsampling_conv_channels": [128, 4],
    "output_proj_dims": 48,
    "initializer_range": 0.2,
}
EYES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "position_embedding_size": 16,
}
LAYERS = ["sliding_attention", "full_attention"] * 2
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for each in messages %}<|im_start|>{{ each.role }}\n"
    "{% for part in each.content %}"
    "{% if part.type == 'audio' %}<|AUDIO|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
WINDOW = 32  # positions that sliding layers see: 512 as published


def make_tiny_gemma4(folder: Path) -> Path:
    """Save a stock Gemma 4 like E2B: shared keys, wide layers, words in every layer, ears, eyes."""
    from transformers import (
        Gemma4AudioFeatureExtractor,
        Gemma4Config,
        Gemma4ForConditionalGeneration,
    )

    tokenizer = _save_tokenizer(folder, "<pad>", "<image>", "<video>")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    ids = tokenizer.token_to_id
    text = {
        **TEXT,
        "num_hidden_layers": len(LAYERS),
        "initializer_range": 0.1,
        "layer_types": LAYERS,
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
        "sliding_window": WINDOW,
        "head_dim": 16,
        "global_head_dim": 32,
        "hidden_size_per_layer_input": 64,
        "vocab_size": tokenizer.get_vocab_size(),
        "vocab_size_per_layer_input": tokenizer.get_vocab_size(),
        "final_logit_softcapping": 30.0,
        "pad_token_id": ids("<pad>"),
        "eos_token_id": ids("<|im_end|>"),
        "bos_token_id": None,
    }
    config = Gemma4Config(
        text_config=text,
        audio_config=AUDIO,
        vision_config=EYES,
        audio_token_id=ids("<|AUDIO|>"),
        boa_token_id=ids("<|audio_bos|>"),
        eoa_token_index=ids("<|audio_eos|>"),
        image_token_id=ids("<image>"),
        video_token_id=ids("<video>"),
        boi_token_id=None,
        eoi_token_id=None,
    )
    _save_random(Gemma4ForConditionalGeneration, config, folder, ids("<|im_end|>"))
    Gemma4AudioFeatureExtractor().save_pretrained(folder)
    return folder


def stock_inputs(lm: Any, audio: Audio) -> dict[str, Any]:
    """As many windows of 30 s as there are, between one pair of markers."""
    each, count = 480_000, len(audio.samples)
    windows = [audio.samples[at : at + each] for at in range(0, count - 160, each)]
    features = lm.extractor(windows, sampling_rate=16_000, return_tensors="pt")
    ids = whole_ids(lm, audio, lm.model.config.audio_token_id)
    return {"input_ids": ids, **features}
