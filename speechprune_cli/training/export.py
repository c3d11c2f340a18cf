"""Write nano as a folder that plain transformers loads: the stock Qwen2-Audio class."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from speechprune_cli.training.learner import Learner
from speechprune_cli.training.text import SPECIALS, load_tokenizer

CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_end|>{% endif %}"
)


def export(learner: Learner, tower: Qwen2AudioEncoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Save weights in half precision, configuration, tokenizer, preprocessor and chat template."""
    model = assemble(learner, tower)
    nn.Module.half(model)
    model.save_pretrained(folder)
    processor(tokenizer, tower.config.num_mel_bins).save_pretrained(folder)


def load_trainable(folder: Path) -> Learner:
    """The projector and decoder of an exported model, to train on from there."""
    model = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).model
    learner = Learner(load_tokenizer(folder / "tokenizer.json"), model.config.audio_config.d_model)
    learner.projector.load_state_dict(model.multi_modal_projector.linear.state_dict())
    learner.lm.model.load_state_dict(model.language_model.state_dict())
    return learner


def assemble(learner: Learner, tower: Qwen2AudioEncoder) -> Qwen2AudioForConditionalGeneration:
    """One model from the frozen encoder, the projector and the decoder (embeddings untied)."""
    text = LlamaConfig(**{**learner.lm.config.to_dict(), "tie_word_embeddings": False})
    config = Qwen2AudioConfig(
        audio_config=tower.config,
        text_config=text,
        audio_token_index=SPECIALS.index("<|AUDIO|>"),
    )
    model = Qwen2AudioForConditionalGeneration(config).eval()
    model.model.audio_tower.load_state_dict(tower.state_dict())
    model.model.multi_modal_projector.linear.load_state_dict(learner.projector.state_dict())
    model.model.language_model.load_state_dict(learner.lm.model.state_dict())
    model.lm_head.load_state_dict({"weight": learner.lm.model.embed_tokens.weight})
    end = SPECIALS.index("<|endoftext|>")
    model.generation_config.update(eos_token_id=end, pad_token_id=end, do_sample=False)
    return model


def processor(tokenizer: Tokenizer, mels: int) -> Qwen2AudioProcessor:
    """Stock processor with nano's prompt: audio between its markers, the question, `<|im_end|>`."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIALS[1:]),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=131072,
    )
    return Qwen2AudioProcessor(
        feature_extractor=WhisperFeatureExtractor(feature_size=mels),
        tokenizer=fast,
        chat_template=CHAT_TEMPLATE,
    )
