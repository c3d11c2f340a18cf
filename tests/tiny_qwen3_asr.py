"""A tiny Qwen3-ASR with random weights, in files as Qwen publishes the models for transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import QUESTION, TEXT, head_dim, save_sharded
from tiny_qwen2_5_omni import random_tensors, save_omni_tokenizer
from tiny_qwen3_omni import AUT

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


WORDS = {
    "audio_token": "<|audio_pad|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
ORDER = ("audio_bos_token", "audio_token", "audio_eos_token")
TEMPLATE = """\
<|im_start|>system
{% for each in messages if each.role == 'system' %}{{ each.content[0].text }}{% endfor %}<|im_end|>
<|im_start|>user
{% for each in messages if each.role == 'user' %}SOUND{% endfor %}<|im_end|>
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def make_tiny_qwen3_asr(folder: Path) -> Path:
    """Save a stock Qwen3-ASR with random weights, in shards, its output head tied."""
    from transformers import (
        AutoTokenizer,
        GenerationConfig,
        Qwen3ASRConfig,
        Qwen3ASRFeatureExtractor,
        Qwen3ASRForConditionalGeneration,
        Qwen3ASRProcessor,
    )

    tokenizer = save_omni_tokenizer(folder, WORDS, TEMPLATE)
    ends = [tokenizer.token_to_id(each) for each in ("<|endoftext|>", "<|im_end|>")]
    config = Qwen3ASRConfig(
        audio_config={**AUT, "output_dim": TEXT["hidden_size"], "model_type": "qwen3_asr_encoder"},
        text_config={
            **TEXT,
            "model_type": "qwen3",
            "head_dim": head_dim(),
            "vocab_size": tokenizer.get_vocab_size(),
            "tie_word_embeddings": True,
        },
        audio_token_id=tokenizer.token_to_id(WORDS["audio_token"]),
        pad_token_id=ends[-1],
        eos_token_id=ends,
    )
    tensors = random_tensors(Qwen3ASRForConditionalGeneration, config)
    del tensors["lm_head.weight"]  # as `save_pretrained` leaves it out
    save_sharded(folder, tensors)
    config.architectures = ["Qwen3ASRForConditionalGeneration"]
    config.save_pretrained(folder)
    GenerationConfig(eos_token_id=ends, pad_token_id=ends[-1]).save_pretrained(folder)
    Qwen3ASRProcessor(
        Qwen3ASRFeatureExtractor(feature_size=80),
        AutoTokenizer.from_pretrained(folder),
        TEMPLATE.replace("SOUND", "".join(WORDS[name] for name in ORDER)),
    ).save_pretrained(folder)
    (folder / "chat_template.json").unlink()
    return folder


def stock_inputs(lm: Any, audio: Audio) -> Any:
    """As the stock processor prepares a transcription whose context is the question."""
    messages = [
        {"role": "system", "content": [{"type": "text", "text": QUESTION}]},
        {"role": "user", "content": [{"type": "audio", "audio": "any"}]},
    ]
    text = lm.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return lm.processor(text=[text], audio=[audio.samples])
