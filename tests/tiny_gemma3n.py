"""A tiny Gemma 3n with random weights and its tokenizer, saved as published.

transformers builds its eyes by timm, which wants torchvision: an empty stand-in is registered in
their place, as they are never used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_gemma4 import CHAT_TEMPLATE
from tiny_models import TEXT, _save_random, _save_tokenizer, whole_ids

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio

AUDIO = {
    "hidden_size": 32,
    "conf_num_hidden_layers": 2,
    "conf_num_attention_heads": 2,
    "sscp_conv_channel_size": [8, 4],
    "vocab_size": 4,
    "initializer_range": 0.2,
}
EYE_WORDS = ("<image>", "<eye 1>", "<eye 2>", "<eye 3>")
EAR_WORDS = ("<audio end>", "<audio>", "<ear 2>", "<ear 3>")
LAYERS = ["sliding_attention", "full_attention"] * 2
WINDOW = 32  # positions that sliding layers see: 512 as published


def leave_out_eyes() -> None:
    """Let transformers build something empty for the configuration of Gemma 3n's eyes."""
    from transformers import AutoModel, Gemma3nVisionConfig, PreTrainedModel

    class Eyes(PreTrainedModel):
        config_class = Gemma3nVisionConfig

        def __init__(self, config):
            super().__init__(config)
            self.post_init()

    AutoModel.register(Gemma3nVisionConfig, Eyes, exist_ok=True)


def make_tiny_gemma3n(folder: Path) -> Path:
    """Save a stock Gemma 3n like E2B: shared keys, words in every layer, AltUp, Laurel."""
    from transformers import Gemma3nAudioFeatureExtractor, Gemma3nConfig

    leave_out_eyes()
    tokenizer = _save_tokenizer(folder)
    words = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([*EYE_WORDS, *EAR_WORDS])  # behind all others, as published
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("<|AUDIO|>", "<audio>"))
    ids = tokenizer.token_to_id
    text = {
        **TEXT,
        "num_hidden_layers": len(LAYERS),
        "intermediate_size": [128, 128, 128, 64],
        "initializer_range": 0.2,
        "layer_types": LAYERS,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
        "sliding_window": WINDOW,
        "head_dim": 16,
        "hidden_size_per_layer_input": 64,
        "laurel_rank": 64,
        "vocab_size": words + 8,
        "vocab_size_per_layer_input": words,
        "pad_token_id": 0,
        "eos_token_id": ids("<|im_end|>"),
        "bos_token_id": None,
    }
    config = Gemma3nConfig(
        text_config=text,
        audio_config={**AUDIO, "vocab_offset": words + 4},
        vision_config={
            "hidden_size": 16, "vocab_size": 4, "vocab_offset": words, "label_names": ["one", "two"]
        },
        audio_token_id=ids("<audio>"),
        boa_token_id=ids("<|audio_bos|>"),
        eoa_token_id=ids("<audio end>"),
        image_token_id=ids("<image>"),
        boi_token_id=None,
        eoi_token_id=None,
    )  # fmt: skip
    _save_random(_scaled, config, folder, ids("<|im_end|>"))
    Gemma3nAudioFeatureExtractor().save_pretrained(folder)
    return folder


def _scaled(config):
    """A scale of nothing, as they begin with, would hide what layers know of words."""
    import torch
    from transformers import Gemma3nForConditionalGeneration

    model = Gemma3nForConditionalGeneration(config)
    for layer in model.model.language_model.layers:
        torch.nn.init.uniform_(layer.altup.correct_output_scale, 0.5, 1.5)
    return model


def stock_inputs(lm: Any, audio: Audio) -> dict[str, Any]:
    """As many windows of 30 s as there are, between one pair of markers."""
    each, count = 480_000, len(audio.samples)
    windows = [audio.samples[at : at + each] for at in range(0, count - 512, each)]
    features = lm.extractor(windows, sampling_rate=16_000, return_tensors="pt")
    ids = whole_ids(lm, audio, lm.model.config.audio_token_id)
    return {"input_ids": ids, **features}
