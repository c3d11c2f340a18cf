"""A tiny GLM-ASR with random weights, saved as it is published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import AUDIO, QUESTION, TEXT, _save_random, _save_tokenizer

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


MARKERS = ("<|pad|>", "<|begin_of_audio|>", "<|end_of_audio|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for m in messages %}<|user|>\n{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}"
    "<|begin_of_audio|><|pad|><|end_of_audio|><|user|>\n{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""What the published template writes for one recording and one text."""


def make_tiny_glm_asr(folder: Path) -> Path:
    """Save a stock GLM-ASR with its processor; words and head share their weights."""
    from transformers import (
        GlmAsrConfig,
        GlmAsrEncoderConfig,
        GlmAsrForConditionalGeneration,
        GlmAsrProcessor,
        LlamaConfig,
        PreTrainedTokenizerFast,
        WhisperFeatureExtractor,
    )

    tokenizer = _save_tokenizer(folder, *MARKERS)
    end = tokenizer.token_to_id("<|user|>")
    config = GlmAsrConfig(
        audio_config=GlmAsrEncoderConfig(
            hidden_size=AUDIO["d_model"],
            num_hidden_layers=AUDIO["encoder_layers"],
            num_attention_heads=AUDIO["encoder_attention_heads"],
            intermediate_size=4 * AUDIO["d_model"],
            num_mel_bins=AUDIO["num_mel_bins"],
            initializer_range=AUDIO["initializer_range"],
        ),
        text_config=LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(), eos_token_id=[end], **TEXT
        ).to_dict(),
        audio_token_id=tokenizer.token_to_id("<|pad|>"),
    )
    _save_random(GlmAsrForConditionalGeneration, config, folder, end)
    extractor = WhisperFeatureExtractor(feature_size=80, return_attention_mask=True)
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    GlmAsrProcessor(extractor, words, chat_template=TEMPLATE).save_pretrained(folder)
    return folder


def stock_inputs(lm: Any, audio: Audio) -> Any:
    """As the processor's `apply_transcription_request` writes it, with a question."""
    return lm.processor.apply_transcription_request(audio.samples, prompt=QUESTION)
