"""Gemma 4 against the stock model: same tokens, same logits, words looked up in every layer."""

from __future__ import annotations

import json
import shutil

import parity
import pytest
import torch
from conftest import make_audio
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import load
from speechprune_cli.backends._lookup import Lookup
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import SAMPLE_RATE

EXPERTS = {
    "enable_moe_block": True,
    "num_experts": 2,
    "top_k_experts": 1,
    "moe_intermediate_size": 8,
}
SLOW = {30.0, 71.3, 200.0}
LENGTHS = [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in parity.LENGTHS]


@pytest.fixture(scope="module")
def lm(tiny_gemma4_folder):
    return load(str(tiny_gemma4_folder), device="cpu", cache=False).model


@pytest.fixture(scope="module")
def stock(tiny_gemma4_folder):
    from transformers import Gemma4ForConditionalGeneration

    return Gemma4ForConditionalGeneration.from_pretrained(tiny_gemma4_folder).eval()


def inputs_of(lm, seconds):
    """As many windows of 30 s as there are, between one pair of markers."""
    samples, each = make_audio(seconds).samples, 30 * SAMPLE_RATE
    windows = [samples[at : at + each] for at in range(0, len(samples) - 160, each)]
    features = lm.extractor(windows, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    ids = parity.expected_ids(lm, seconds, lm.model.config.audio_token_id)
    return {"input_ids": ids, **features}


@torch.inference_mode()
@pytest.mark.parametrize("seconds", LENGTHS)
def test_with_nothing_pruned_the_logits_are_the_stock_model_s(lm, stock, seconds):
    expected = stock(**inputs_of(lm, seconds)).logits
    prompt = parity.prompt_of(lm, seconds)
    ids = lm.word_ids(prompt.inputs_embeds)
    ours = lm.model(
        inputs_embeds=prompt.inputs_embeds,
        position_ids=prompt.position_ids,
        per_layer_inputs=lm.decoder.get_per_layer_inputs(ids),
    ).logits
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() == 0.0
    torch.testing.assert_close(lm.prefill(prompt)[1], expected[0, -1], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [3.0, 30.0])
def test_generate_gives_the_stock_model_s_tokens(lm, stock, seconds):
    inputs = inputs_of(lm, seconds)
    told = stock.generate(**inputs, do_sample=False, max_new_tokens=20)
    parity.same_answer(lm, seconds, told[0, inputs["input_ids"].shape[1] :].tolist(), 20)


@torch.inference_mode()
@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_pruned_prompt_is_read_as_the_stock_decoder_reads_it(lm, stock, position):
    """By the stock forward on what is left of the embeddings, and of each layer's own."""
    from transformers import DynamicCache

    seen = {}
    hook = stock.model.language_model.register_forward_pre_hook(
        lambda module, _, named: seen.update(named), with_kwargs=True
    )
    stock(**inputs_of(lm, 3.0))
    hook.remove()
    places = parity.kept_places(lm, 3.0, step=3)
    positions = places if position == "original" else torch.arange(len(places))
    hidden = stock.model.language_model(
        inputs_embeds=seen["inputs_embeds"][:, places],
        per_layer_inputs=seen["per_layer_inputs"][:, places],
        position_ids=positions[None],
        cache=DynamicCache(config=stock.model.language_model.config),
    ).last_hidden_state
    logits = (stock.lm_head(hidden[0, -1]) / 30.0).tanh() * 30.0
    prompt = parity.prompt_of(lm, 3.0, step=3, position=position)
    assert torch.equal(prompt.position_ids, positions[None])
    assert (lm.prefill(prompt)[1] - logits).abs().max() == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_are_found_by_their_embeddings(dtype):
    table = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    lookup, ids = Lookup(lambda some: table[some], len(table), table.device), torch.arange(20_000)
    assert torch.equal(lookup.find(table[ids].view(2, 10_000, 64), -1), ids.view(2, -1))
    changed = table.clone()
    changed[:, 7] += 0.25
    assert (lookup.find(changed, -1) == -1).all()


@pytest.mark.parametrize("seconds", parity.LENGTHS)
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
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        lm.encode_windows([make_audio(seconds).samples])
    assert counter.get_total_flops() == lm.shape.encoder.flops(seconds, lm.hidden_size)


@pytest.mark.parametrize("length", [20, 100])
def test_torch_counts_the_same_decoder(lm, length):
    """In a window of 32 and beyond; layers that share keys hold none."""
    assert sum(kind.layers for kind in lm.shape.decoder.kinds) == 4
    parity.assert_decoder_is_counted(lm, length)


def test_random_weights_are_counted_alike(lm):
    from speechprune_cli.device import place

    made = type(lm).random(lm.preset, lm.shape, place("cpu"))
    parity.assert_decoder_is_counted(made)
    assert made.model.config.vision_config is None


def test_a_question_with_the_audio_marker_is_refused(lm):
    with pytest.raises(UsageError, match="must not contain"):
        lm.prompt_ids("What does <|AUDIO|> mean?")


def test_what_stays_unquantised_is_there(lm):
    for name in lm.unquantised:
        assert lm.model.get_submodule(name)


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


@torch.inference_mode()
def test_shards_with_the_published_names_are_loaded(tiny_gemma4_folder, tmp_path, lm):
    """The native class's own names: transformers lists no conversion for `gemma4`."""
    folder = shutil.copytree(tiny_gemma4_folder, tmp_path / "published")
    names = parity.shard(folder)
    assert "model.language_model.embed_tokens_per_layer.weight" in names
    assert "model.audio_tower.layers.0.self_attn.q_proj.linear.weight" in names
    assert "model.language_model.layers.3.self_attn.k_proj.weight" not in names
    found = load(str(folder), device="cpu", cache=False).model
    prompt = parity.prompt_of(lm, 3.0)
    assert torch.equal(found.prefill(prompt)[1], lm.prefill(prompt)[1])
