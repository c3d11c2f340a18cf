"""Qwen3-ASR against the stock class and processor, in files as they are published."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_audio
from thinker_parity import (
    QUESTION,
    check_prefill_costs,
    counted,
    logits_apart,
    pruned_apart,
    same_tokens,
)
from transformers import Qwen3ASRForConditionalGeneration

from speechprune_cli import load
from speechprune_cli.backends.qwen3_asr import Qwen3Asr, Qwen3AsrShape
from speechprune_cli.config import resolve_model
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE

LENGTHS = (0.4, 3.0, 29.99, 30.0, 30.01, 71.3, 200.0)


@pytest.fixture(scope="module")
def lm(tiny_qwen3_asr_folder):
    return load(str(tiny_qwen3_asr_folder), device="cpu", cache=False).model


def stock_inputs(lm, audio):
    """As the stock processor prepares a transcription whose context is the question."""
    messages = [
        {"role": "system", "content": [{"type": "text", "text": QUESTION}]},
        {"role": "user", "content": [{"type": "audio", "audio": "any"}]},
    ]
    text = lm.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return lm.processor(text=[text], audio=[audio.samples])


@pytest.mark.parametrize("seconds", LENGTHS)
def test_with_nothing_pruned_the_logits_are_the_stock_model_s(lm, seconds):
    audio = make_audio(seconds)
    inputs = stock_inputs(lm, audio)
    sound = inputs["input_ids"] == lm.model.config.audio_token_id
    assert int(sound.sum()) == lm.shape.audio_tokens(seconds), "as the processor counts"
    assert logits_apart(lm, audio, inputs) == 0.0


@pytest.mark.parametrize("seconds", [3.0, 71.3])
def test_answers_are_the_stock_model_s(lm, seconds):
    audio = make_audio(seconds)
    assert same_tokens(lm, audio, stock_inputs(lm, audio))


@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_pruned_prompt_is_the_stock_decoder_over_what_is_kept(lm, position):
    audio = make_audio(30.01)
    assert pruned_apart(lm, audio, stock_inputs(lm, audio), position) == 0.0


@pytest.mark.parametrize(
    ("seconds", "tokens"), [(0.4, 7), (1, 13), (29.99, 390), (30, 390), (30.01, 391), (71.3, 927)]
)
def test_counted_by_its_own_rules(seconds, tokens):
    shape = Qwen3AsrShape(
        d_model=1024,
        encoder_layers=24,
        encoder_attention_heads=16,
        encoder_ffn_dim=4096,
        num_mel_bins=128,
        n_window=50,
        n_window_infer=800,
        downsample_hidden_size=480,
    )
    assert shape.tokens(round(seconds * SAMPLE_RATE)) == tokens
    assert (shape.input_tokens, shape.per_second, shape.own_input) == (390, 13.0, False)


def test_the_silence_that_is_added_to_half_a_second_has_no_length(lm):
    start, end = lm.encode(make_audio(0.25)).times.T
    assert len(start) == 7
    assert int((end > start).sum()) == 4
    assert end.max() == 0.25


def test_torch_counts_the_same(lm):
    model = Qwen3ASRForConditionalGeneration._from_config(
        lm.model.config, attn_implementation="eager"
    )
    for seconds in (0.4, 3.0, 71.3):
        inputs = stock_inputs(lm, make_audio(seconds))
        told = {name: inputs[name] for name in ("input_features", "input_features_mask")}
        found = counted(model.get_audio_features, **told)
        assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)
    check_prefill_costs(lm, make_audio(3.0), model)


class TestCheckpoint:
    """In shards, with the names that transformers' `convert_qwen3_asr_to_hf.py` gives tensors."""

    def test_names_and_weights(self, lm, tiny_qwen3_asr_folder):
        path = tiny_qwen3_asr_folder / "model.safetensors.index.json"
        names = set(json.loads(path.read_text())["weight_map"])
        assert names >= {
            "model.audio_tower.conv_out.weight",
            "model.audio_tower.layers.0.self_attn.q_proj.weight",
            "model.multi_modal_projector.linear_1.weight",
            "model.language_model.layers.0.self_attn.q_norm.weight",
            "model.language_model.embed_tokens.weight",
        }
        assert names == {name for name, _ in lm.model.named_parameters()}
        assert sum(each.numel() for each in lm.model.parameters()) == lm.parameters

    def test_the_layout_of_its_own_package_is_refused_in_a_line(self, tmp_path):
        """transformers would read the defaults of its class out of it, and say nothing."""
        config = {"model_type": "qwen3_asr", "thinker_config": {"audio_config": {"d_model": 896}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=r"whose name ends in -hf$"):
            Qwen3Asr.describe(resolve_model(str(tmp_path)), tmp_path)

    def test_signs_of_a_quantised_model_come_from_the_checkpoint(self, lm, monkeypatch):
        expected = lm.first_layer()
        monkeypatch.setattr(lm, "quantize", "nf4")
        found = lm.first_layer()
        assert torch.equal(found.q_weight, expected.q_weight)
        assert torch.equal(found.k_weight, expected.k_weight)

    def test_what_stays_in_16_bits_is_there(self, lm):
        assert set(lm.unquantised) <= {name for name, _ in lm.model.named_modules()}
