"""Qwen3-ASR against the stock class and processor, in files as they are published."""

from __future__ import annotations

import json

import pytest
from conftest import make_audio
from parity import Parity, flops_of, preset_is_the_model
from tiny_families import TINY

from speechprune_cli import load
from speechprune_cli.backends.qwen3_asr import Qwen3Asr, Qwen3AsrShape
from speechprune_cli.config import list_presets, resolve_model
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_qwen3_asr_folder):
    return load(str(tiny_qwen3_asr_folder), device="cpu", cache=False).model


@pytest.mark.slow
class TestParity(Parity):
    tiny = TINY["qwen3_asr"]


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


def test_torch_counts_the_same_encoder(lm):
    for seconds in (0.4, 3.0, 71.3):
        inputs = TINY["qwen3_asr"].inputs(lm, make_audio(seconds))
        told = {name: inputs[name] for name in ("input_features", "input_features_mask")}
        found = flops_of(lambda told=told: lm.model.get_audio_features(**told))
        assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)


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


@pytest.mark.parametrize("name", [name for name in list_presets() if name.startswith("qwen3-asr")])
def test_presets_are_counted_as_they_are_built(name):
    preset_is_the_model(name)
