"""Shared fixtures: tiny Speech LLMs with random weights, and recordings of any length."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from speechprune_cli.flow import SAMPLE_RATE, Audio

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
]
SENTENCES = ["When is the report due?", "The report is due on Friday.", "in the red house"]
TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "initializer_range": 0.5,
    "max_position_embeddings": 8192,
}
AUDIO = {
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "initializer_range": 0.2,
}


def make_tiny_model(folder: Path, text_family: str) -> Path:
    """Save a stock Qwen2-Audio with random weights, its tokenizer and its feature extractor."""
    import torch
    from transformers import (
        AutoConfig,
        Qwen2AudioConfig,
        Qwen2AudioEncoderConfig,
        Qwen2AudioForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    tokenizer = _save_tokenizer(folder)
    ends = {name: tokenizer.token_to_id("<|im_end|>") for name in ("eos_token_id", "pad_token_id")}
    config = Qwen2AudioConfig(
        audio_config=Qwen2AudioEncoderConfig(**AUDIO),
        text_config=AutoConfig.for_model(
            text_family, vocab_size=tokenizer.get_vocab_size(), bos_token_id=None, **ends, **TEXT
        ),
        audio_token_index=tokenizer.token_to_id("<|AUDIO|>"),
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config)
    for norm in (m for m in model.modules() if "Norm" in type(m).__name__):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    model.generation_config.eos_token_id = ends["eos_token_id"]
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80, return_attention_mask=True).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path):
    """A byte-level BPE of some 300 tokens; Qwen2-Audio's chat template is the processor's own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "Qwen2AudioProcessor",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


def make_audio(seconds: float, seed: int = 0) -> Audio:
    """Tones that come and go over noise, so that every window is different."""
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    noise = np.random.default_rng(seed).normal(0, 0.05, count)
    tone = 0.3 * np.sin(2 * np.pi * (200 + 40 * np.sin(time)) * time) * (np.sin(3 * time) > 0)
    samples = (tone + noise).astype(np.float32)
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    return Audio(samples, f"{seconds} s", digest, SAMPLE_RATE, 1, seconds)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """No test touches the user's cache, or the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Path:
    """A model folder in Qwen2-Audio's format with a tiny Llama decoder."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture(scope="session")
def tiny_qwen2_folder(tmp_path_factory) -> Path:
    """The same with a Qwen2 decoder, as in the 7B model: biases on queries and keys."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-qwen2", "qwen2")
