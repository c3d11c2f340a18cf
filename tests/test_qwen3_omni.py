"""Qwen3-Omni's Thinker against the stock class and processor, in files as they are published."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_audio
from parity import Parity, flops_of, preset_is_the_model
from tiny_families import TINY
from transformers import Qwen3OmniMoeThinkerForConditionalGeneration

from speechprune_cli import load
from speechprune_cli.backends._aut import AutShape
from speechprune_cli.config import list_presets
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_qwen3_omni_folder):
    return load(str(tiny_qwen3_omni_folder), device="cpu", cache=False).model


@pytest.mark.slow
class TestParity(Parity):
    tiny = TINY["qwen3_omni"]

    def countable(self, lm):
        """Experts one by one: those that a token is sent to, and the router."""
        lm.model.set_experts_implementation("eager")
        return lm


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


def test_torch_counts_the_same_encoder(lm):
    for seconds in (0.4, 3.0, 71.3):
        features = lm.features(make_audio(seconds))
        lengths = torch.tensor([features.shape[-1]])
        found = flops_of(lambda told=(features, lengths): lm.run_encoder(*told))
        assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)


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


@pytest.mark.parametrize("name", [name for name in list_presets() if name.startswith("qwen3-omni")])
def test_presets_are_counted_as_they_are_built(name):
    preset_is_the_model(name)
