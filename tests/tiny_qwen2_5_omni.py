"""A tiny Qwen2.5-Omni with random weights, in files as Qwen publishes the 3B and 7B models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import AUDIO, QUESTION, SENTENCES, TEXT, head_dim, save_sharded

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


WORDS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
PICTURES = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
TEMPLATE = """\
{% for each in messages %}{% if loop.first and each.role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ each.role }}
{% for part in each.content %}{% if part.type == 'audio' %}SOUND{% else %}{{ part.text }}{% endif %}
{%- endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def make_tiny_qwen2_5_omni(folder: Path) -> Path:
    """Save a stock Thinker with random weights among those of a Talker that nobody loads."""
    from transformers import (
        Qwen2_5OmniConfig,
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
    )

    tokenizer = save_omni_tokenizer(folder, WORDS)
    thinker = Qwen2_5OmniThinkerConfig(
        audio_config={**AUDIO, "output_dim": TEXT["hidden_size"]},
        text_config={
            **TEXT,
            "vocab_size": tokenizer.get_vocab_size(),
            "rope_parameters": rope(),
            "tie_word_embeddings": False,
        },
        vision_config={**PICTURES, "out_hidden_size": TEXT["hidden_size"]},
        audio_token_index=tokenizer.token_to_id(WORDS["audio_token"]),
        image_token_index=tokenizer.token_to_id(WORDS["image_token"]),
        video_token_index=tokenizer.token_to_id(WORDS["video_token"]),
        vision_start_token_id=tokenizer.token_to_id(WORDS["vision_bos_token"]),
        vision_end_token_id=tokenizer.token_to_id(WORDS["vision_eos_token"]),
    )
    tensors = random_tensors(Qwen2_5OmniThinkerForConditionalGeneration, thinker)
    save_published(folder, tensors, ("talker.model", "token2wav.code2wav_dit_model"))
    config = Qwen2_5OmniConfig(thinker_config=thinker.to_dict())
    config.architectures = ["Qwen2_5OmniModel"]
    config.save_pretrained(folder)
    save_extractor(folder, "Qwen2_5OmniProcessor")
    return folder


def rope() -> dict[str, Any]:
    """Positions of time, height and width, each its part of a head."""
    half = head_dim() // 2
    sections = [half // 4, half * 3 // 8, half * 3 // 8]
    return {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}


def save_extractor(folder: Path, processor: str) -> None:
    """Among what is told of pictures, as in the published `preprocessor_config.json`."""
    from transformers import WhisperFeatureExtractor

    sound = WhisperFeatureExtractor(feature_size=80, chunk_length=300, return_attention_mask=True)
    pictures = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "patch_size": 14,
        "merge_size": 2,
        "max_pixels": 12845056,
        "processor_class": processor,
    }
    told = json.dumps({**sound.to_dict(), **pictures})
    (folder / "preprocessor_config.json").write_text(told)


def random_tensors(kind: Any, config: Any) -> dict[str, Any]:
    """Weights of the stock class, by the names that it saves them under."""
    import torch
    from transformers.core_model_loading import revert_weight_conversion

    torch.manual_seed(0)
    model = kind(config)
    for norm in (each for each in model.modules() if "Norm" in type(each).__name__):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    return revert_weight_conversion(model, model.state_dict())


def save_published(folder: Path, tensors: dict[str, Any], others: tuple[str, ...]) -> None:
    """In shards, behind `thinker.`, beside tensors of something else.

    So the index of Qwen/Qwen2.5-Omni-7B has them (`thinker.audio_tower.conv1.weight`,
    `thinker.model.layers.0.self_attn.q_proj.weight`, `thinker.lm_head.weight`, ...), and so
    transformers' `conversion_mapping.py` expects them: `PrefixChange(prefix_to_remove="thinker")`.
    """
    import torch

    named = {f"thinker.{name}": tensor for name, tensor in tensors.items()}
    named |= {f"{name}.layers.0.self_attn.q_proj.weight": torch.ones(3, 5) for name in others}
    save_sharded(folder, named)


def save_omni_tokenizer(folder: Path, words: dict[str, str], template: str = TEMPLATE) -> Any:
    """A byte-level BPE of some 300 tokens, and a chat template of the form of the published one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *words.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "extra_special_tokens": words,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    audio = "".join(words[f"audio_{part}token"] for part in ("bos_", "", "eos_"))
    told = {"chat_template": template.replace("SOUND", audio)}
    (folder / "chat_template.json").write_text(json.dumps(told))
    return tokenizer


def stock_inputs(lm: Any, audio: Audio) -> Any:
    """What the stock Thinker takes."""
    from transformers import Qwen2_5OmniProcessor

    return thinker_inputs(Qwen2_5OmniProcessor, lm, audio)


def thinker_inputs(processor_class: Any, lm: Any, audio: Audio) -> Any:
    """As the stock processor of an Omni model prepares them for its Thinker.

    Its parts that see are left out: those need torchvision.
    """
    processor = object.__new__(processor_class)
    vars(processor).update(tokenizer=lm.tokenizer, feature_extractor=lm.extractor)
    for name in ("image", "audio", "video"):
        setattr(processor, f"{name}_token", getattr(lm.tokenizer, f"{name}_token"))
        setattr(processor, f"{name}_token_id", getattr(lm.tokenizer, f"{name}_token_id"))
    content = [{"type": "audio", "audio": "any"}, {"type": "text", "text": QUESTION}]
    text = lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return processor(text=[text], audio=[audio.samples], return_tensors="pt")
