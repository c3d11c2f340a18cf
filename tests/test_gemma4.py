"""Gemma 4 against the stock model: same tokens, same logits, words looked up in every layer."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import make_audio
from parity import LENGTHS, Parity, decoder_is_counted, flops_of, preset_is_the_model
from tiny_families import TINY

from speechprune_cli import load
from speechprune_cli.backends._lookup import Lookup
from speechprune_cli.config import list_presets
from speechprune_cli.device import place
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import SAMPLE_RATE

EXPERTS = {
    "enable_moe_block": True,
    "num_experts": 2,
    "top_k_experts": 1,
    "moe_intermediate_size": 8,
}


@pytest.fixture(scope="module")
def lm(tiny_gemma4_folder):
    return load(str(tiny_gemma4_folder), device="cpu", cache=False).model


class TestParity(Parity):
    tiny = TINY["gemma4"]
    answered = (0.4, 3.0, 30.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_are_found_by_their_embeddings(dtype):
    table = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    lookup, ids = Lookup(lambda some: table[some], len(table), table.device), torch.arange(20_000)
    assert torch.equal(lookup.find(table[ids].view(2, 10_000, 64), -1), ids.view(2, -1))
    changed = table.clone()
    changed[:, 7] += 0.25
    assert (lookup.find(changed, -1) == -1).all()


@pytest.mark.parametrize("seconds", LENGTHS)
def test_counted_by_the_processor_s_own_rules(lm, seconds):
    from transformers import Gemma4Processor

    rules = Gemma4Processor.__new__(Gemma4Processor)
    rules.feature_extractor, rules.audio_seq_length = lm.extractor, 750
    samples, each = round(seconds * SAMPLE_RATE), 30 * SAMPLE_RATE
    counts = [
        rules._compute_audio_num_tokens(torch.zeros(min(each, samples - at)), SAMPLE_RATE)
        for at in range(0, samples, each)
    ]
    assert lm.shape.encoder.tokens(samples) == sum(counts)


@pytest.mark.parametrize("seconds", [0.4, 2.9, 30.0])
def test_torch_counts_the_same_encoder(lm, seconds):
    found = flops_of(lambda: lm.encode_windows([make_audio(seconds).samples]))
    assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)


def test_layers_that_share_keys_hold_none(lm):
    """Beyond a window of 32 and within it."""
    assert sum(kind.layers for kind in lm.shape.decoder.kinds) == 4
    decoder_is_counted(lm, 20)


def test_random_weights_have_no_eyes(lm):
    made = type(lm).random(lm.preset, lm.shape, place("cpu"))
    assert made.model.config.vision_config is None


def test_a_question_with_the_audio_marker_is_refused(lm):
    with pytest.raises(UsageError, match="must not contain"):
        lm.prompt_ids("What does <|AUDIO|> mean?")


@pytest.mark.parametrize(
    ("part", "told", "message"),
    [
        ("audio_config", None, "hears nothing"),
        ("text_config", EXPERTS, "mixture of experts"),
    ],
)
def test_models_without_ears_or_with_experts_are_refused(
    tiny_gemma4_folder, tmp_path, part, told, message
):
    from speechprune_cli.config import resolve_model
    from speechprune_cli.profiler.architecture import shape_of

    folder = shutil.copytree(tiny_gemma4_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config[part] = told if told is None else {**config[part], **told}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        shape_of(resolve_model(str(folder)))


def test_names_are_the_published_ones(lm):
    """The native class's own names: transformers lists no conversion for `gemma4`."""
    names = TINY["gemma4"].published(lm)
    assert "model.language_model.embed_tokens_per_layer.weight" in names
    assert "model.audio_tower.layers.0.self_attn.q_proj.linear.weight" in names
    assert "model.language_model.layers.3.self_attn.k_proj.weight" not in names


@pytest.mark.parametrize("name", [name for name in list_presets() if "gemma-4" in name])
def test_presets_are_counted_as_they_are_built(name):
    from transformers import Gemma4VisionConfig

    preset_is_the_model(name, vision_config=Gemma4VisionConfig(use_clipped_linears=True))
