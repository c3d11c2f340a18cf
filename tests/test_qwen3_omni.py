"""Qwen3-Omni's Thinker against the stock class and processor, in files as they are published."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_audio
from thinker_parity import (
    check_prefill_costs,
    counted,
    logits_apart,
    pruned_apart,
    same_tokens,
    thinker_inputs,
)
from transformers import Qwen3OmniMoeProcessor, Qwen3OmniMoeThinkerForConditionalGeneration

from speechprune_cli import load
from speechprune_cli.backends._aut import AutShape
from speechprune_cli.flow import SAMPLE_RATE

LENGTHS = (0.4, 3.0, 29.99, 30.0, 30.01, 71.3, 200.0)


@pytest.fixture(scope="module")
def lm(tiny_qwen3_omni_folder):
    return load(str(tiny_qwen3_omni_folder), device="cpu", cache=False).model


def stock_inputs(lm, audio):
    return thinker_inputs(Qwen3OmniMoeProcessor, lm, audio)


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
    ("seconds", "tokens"),
    [(0.0125, 0), (0.4, 5), (1, 13), (29.99, 390), (30, 390), (30.01, 391), (71.3, 927)],
)
def test_counted_by_its_own_rules(seconds, tokens):
    shape = AutShape(
        d_model=1280,
        encoder_layers=32,
        encoder_attention_heads=20,
        encoder_ffn_dim=5120,
        num_mel_bins=128,
        n_window=50,
        n_window_infer=800,
        downsample_hidden_size=480,
    )
    assert shape.tokens(round(seconds * SAMPLE_RATE)) == tokens
    assert (shape.input_tokens, shape.per_second, shape.own_input) == (390, 13.0, False)


def test_the_last_token_of_a_second_is_half_as_long(lm):
    start, end = lm.encode(make_audio(3)).times.T
    assert torch.allclose(start[13:26], 1 + 0.08 * torch.arange(13), atol=1e-6)
    lengths = (end - start).reshape(3, 13)
    torch.testing.assert_close(lengths[:, :12], torch.full((3, 12), 0.08), atol=1e-6, rtol=0)
    torch.testing.assert_close(lengths[:, 12], torch.full((3,), 0.04), atol=1e-6, rtol=0)


def test_torch_counts_the_same(lm):
    """Of the decoder: attention, the router and the experts that a token is sent to."""
    model = Qwen3OmniMoeThinkerForConditionalGeneration._from_config(
        lm.model.config, attn_implementation="eager", experts_implementation="eager"
    )
    for seconds in (0.4, 3.0, 71.3):
        features = lm.features(make_audio(seconds))
        lengths = torch.tensor([features.shape[-1]])
        found = counted(model.model.audio_tower, features, feature_lens=lengths)
        assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)
    check_prefill_costs(lm, make_audio(3.0), model)


class TestCheckpoint:
    """Of the whole model, in shards, with the names that Qwen gave its tensors."""

    def test_the_thinker_alone_is_loaded_and_counted(self, lm, tiny_qwen3_omni_folder):
        path = tiny_qwen3_omni_folder / "model.safetensors.index.json"
        expected = {
            "thinker.audio_tower.conv2d1.weight",
            "thinker.audio_tower.proj2.weight",
            "thinker.model.layers.0.mlp.gate.weight",
            "thinker.model.layers.0.mlp.experts.5.down_proj.weight",
            "thinker.model.layers.0.self_attn.q_norm.weight",
            "thinker.lm_head.weight",
            "thinker.visual.merger_list.0.ln_q.weight",
            "talker.model.layers.0.self_attn.q_proj.weight",
        }
        assert expected <= json.loads(path.read_text())["weight_map"].keys()
        held = dict(lm.model.named_parameters())
        assert sum(each.numel() for each in held.values()) == lm.parameters
        assert not any("visual" in name for name in held)

    def test_weights_are_those_of_the_stock_class(self, lm, tiny_qwen3_omni_folder):
        whole = Qwen3OmniMoeThinkerForConditionalGeneration.from_pretrained(tiny_qwen3_omni_folder)
        expected, found = whole.state_dict(), lm.model.state_dict()
        assert {name for name in expected if "visual" not in name} == found.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)

    def test_signs_of_a_quantised_model_come_from_the_thinker(self, lm, monkeypatch):
        expected = lm.first_layer()
        monkeypatch.setattr(lm, "quantize", "nf4")
        found = lm.first_layer()
        assert torch.equal(found.q_weight, expected.q_weight)
        assert torch.equal(found.k_weight, expected.k_weight)

    def test_what_stays_in_16_bits_is_there(self, lm):
        assert set(lm.unquantised) <= {name for name, _ in lm.model.named_modules()}
