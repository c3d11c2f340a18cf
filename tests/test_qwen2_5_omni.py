"""Qwen2.5-Omni's Thinker against the stock class and processor, in files as they are published."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_audio
from parity import Parity, flops_of, preset_is_the_model
from tiny_families import TINY
from tiny_qwen2_5_omni import stock_inputs
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from speechprune_cli import load
from speechprune_cli.backends.qwen2_5_omni import Qwen25OmniShape
from speechprune_cli.config import list_presets
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_qwen2_5_omni_folder):
    return load(str(tiny_qwen2_5_omni_folder), device="cpu", cache=False).model


class TestParity(Parity):
    tiny = TINY["qwen2_5_omni"]


def test_a_window_too_short_for_a_token_is_encoded_by_itself(lm):
    """120 s are four windows: what is left of 10 ms makes a position, and no token."""
    tokens = lm.encode(make_audio(120.01))
    assert len(tokens) == lm.shape.audio_tokens(120.01) == 3000
    assert len(tokens.attention) == 3000


def test_nothing_is_cut_where_the_stock_processor_cuts(lm, monkeypatch):
    """At 300 s; at 30 s in this test."""
    assert lm.extractor.n_samples == 300 * SAMPLE_RATE
    monkeypatch.setattr(lm.extractor, "n_samples", 30 * SAMPLE_RATE)
    audio = make_audio(33.0)
    assert int(stock_inputs(lm, audio)["feature_attention_mask"].sum()) == 3000
    tokens = lm.encode(audio).embeds
    assert len(tokens) == lm.shape.audio_tokens(33) == 750 + 75
    for part, found in ((slice(480_000), tokens[:750]), (slice(480_000, None), tokens[750:])):
        samples = audio.samples[part]
        alone = type(audio)(samples, "part", "", SAMPLE_RATE, 1, len(samples) / SAMPLE_RATE)
        torch.testing.assert_close(lm.encode(alone).embeds, found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("seconds", "tokens"), [(0.4, 10), (29.99, 750), (30, 750), (30.01, 750), (71.3, 1782)]
)
def test_counted_by_its_own_rules(seconds, tokens):
    shape = Qwen25OmniShape(
        d_model=1280,
        encoder_layers=32,
        encoder_attention_heads=20,
        encoder_ffn_dim=5120,
        num_mel_bins=128,
        n_window=100,
    )
    assert shape.tokens(round(seconds * SAMPLE_RATE)) == tokens
    assert (shape.input_tokens, shape.per_second, shape.own_input) == (750, 25.0, False)


def test_torch_counts_the_same_encoder(lm):
    for seconds in (0.4, 3.0, 71.3):
        features = lm.features(make_audio(seconds))
        lengths = torch.tensor([features.shape[-1]])
        found = flops_of(lambda told=(features, lengths): lm.run_encoder(*told))
        assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)


class TestCheckpoint:
    """Of the whole model, in shards, with the names that Qwen gave its tensors."""

    def test_the_thinker_alone_is_loaded_and_counted(self, lm, tiny_qwen2_5_omni_folder):
        index = json.loads((tiny_qwen2_5_omni_folder / "model.safetensors.index.json").read_text())[
            "weight_map"
        ]
        expected = {
            "thinker.audio_tower.audio_bos_eos_token.weight",
            "thinker.audio_tower.layers.0.self_attn.q_proj.bias",
            "thinker.audio_tower.proj.weight",
            "thinker.model.embed_tokens.weight",
            "thinker.model.layers.0.self_attn.k_proj.bias",
            "thinker.model.norm.weight",
            "thinker.lm_head.weight",
            "thinker.visual.merger.mlp.0.weight",
            "talker.model.layers.0.self_attn.q_proj.weight",
        }
        assert expected <= index.keys()
        held = dict(lm.model.named_parameters())
        assert sum(each.numel() for each in held.values()) == lm.parameters
        assert not any("visual" in name for name in held)

    def test_a_thinker_saved_by_itself_is_the_same(self, lm, tmp_path, tiny_qwen2_5_omni_folder):
        whole = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(tiny_qwen2_5_omni_folder)
        whole.save_pretrained(tmp_path)
        weights = ("model.safetensors", "model.safetensors.index.json", "config.json")
        for path in tiny_qwen2_5_omni_folder.iterdir():
            if path.suffix != ".safetensors" and path.name not in weights:
                (tmp_path / path.name).write_bytes(path.read_bytes())
        alone = load(str(tmp_path), device="cpu", cache=False).model
        found, expected = alone.model.state_dict(), lm.model.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
        assert alone.parameters == lm.parameters


@pytest.mark.parametrize(
    "name", [name for name in list_presets() if name.startswith("qwen2.5-omni")]
)
def test_presets_are_counted_as_they_are_built(name):
    preset_is_the_model(name)
