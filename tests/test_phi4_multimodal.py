"""Phi-4-multimodal against the stock model, its adapter on: same tokens, same logits."""

from __future__ import annotations

import shutil

import parity
import pytest
import torch
from conftest import make_audio
from tiny_phi4 import LIMIT
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import load
from speechprune_cli.backends.decoding import DecoderState
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_phi4_folder):
    return load(str(tiny_phi4_folder), device="cpu", cache=False).model


@pytest.fixture(scope="module")
def stock(tiny_phi4_folder):
    """As transformers' documentation loads it."""
    from transformers import Phi4MultimodalForCausalLM

    model = Phi4MultimodalForCausalLM.from_pretrained(tiny_phi4_folder).eval()
    folder = {"subfolder": "speech-lora"}
    model.load_adapter(str(tiny_phi4_folder), adapter_name="speech", adapter_kwargs=folder)
    return model


def inputs_of(lm, seconds):
    from transformers import Phi4MultimodalFeatureExtractor

    ids = parity.expected_ids(lm, seconds, lm.model.config.audio_config.audio_token_id)
    features = Phi4MultimodalFeatureExtractor()(
        make_audio(seconds).samples, sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )
    return {"input_ids": ids, **features}


@torch.inference_mode()
@pytest.mark.parametrize("seconds", parity.LENGTHS)
def test_with_nothing_pruned_the_logits_are_the_stock_model_s(lm, stock, seconds):
    inputs = inputs_of(lm, seconds)
    assert inputs["audio_embed_sizes"].tolist() == [lm.shape.audio_tokens(seconds)]
    expected = stock(**inputs).logits
    prompt = parity.prompt_of(lm, seconds)
    ours = lm.model(inputs_embeds=prompt.inputs_embeds, position_ids=prompt.position_ids).logits
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() == 0.0
    torch.testing.assert_close(lm.prefill(prompt)[1], expected[0, -1], rtol=1e-5, atol=1e-5)


def stock_embeds(lm, stock, seconds):
    """What the stock model's layers read of the whole prompt."""
    seen = []
    hook = stock.model.layers[0].register_forward_pre_hook(
        lambda _, inputs, __: seen.append(inputs[0]), with_kwargs=True
    )
    stock(**inputs_of(lm, seconds))
    hook.remove()
    return seen[0]


def stock_answer(lm, stock, seconds, count=12):
    """The likeliest token again and again, all read anew each time.

    As `generate` means to do where a prompt becomes a long one; that of transformers 5.24 fails
    beyond the limit, as it takes the cache away and leaves the last token alone to be read.
    """
    embeds, found = stock_embeds(lm, stock, seconds), []
    while len(found) < count and not set(found) & lm.end_tokens:
        found.append(int(stock(inputs_embeds=embeds).logits[0, -1].argmax()))
        embeds = torch.cat([embeds, lm.embed(found[-1:])[None]], dim=1)
    return found


def seconds_for(lm, length):
    """A recording whose whole prompt has so many tokens."""
    ids = lm.prompt_ids(parity.QUESTION)
    return (length - len(ids.before) - len(ids.after)) * 0.08


@torch.inference_mode()
def test_generate_gives_the_stock_model_s_tokens(lm, stock):
    inputs = inputs_of(lm, 3.0)
    told = stock.generate(**inputs, do_sample=False, max_new_tokens=20)
    parity.same_answer(lm, 3.0, told[0, inputs["input_ids"].shape[1] :].tolist(), 20)


@torch.inference_mode()
def test_long_prompts_are_answered_with_the_stock_model_s_tokens(lm, stock):
    parity.same_answer(lm, 71.3, stock_answer(lm, stock, 71.3), 12)


@torch.inference_mode()
def test_an_answer_that_makes_the_prompt_a_long_one_is_the_stock_model_s(lm, stock):
    seconds = seconds_for(lm, LIMIT - 4)
    assert parity.prompt_of(lm, seconds).inputs_embeds.shape[1] == LIMIT - 4
    parity.same_answer(lm, seconds, stock_answer(lm, stock, seconds), 12)


@torch.inference_mode()
def test_short_and_long_prompts_side_by_side_are_read_as_one_by_one(lm):
    lengths = (LIMIT - 60, LIMIT - 4, LIMIT + 40)
    prompts = [parity.prompt_of(lm, seconds_for(lm, length)) for length in lengths]
    alone = [lm.generate(each, max_new_tokens=12).text for each in prompts]
    assert [each.text for each in lm.generate_batch(prompts, max_new_tokens=12)] == alone


@torch.inference_mode()
def test_a_shared_beginning_that_becomes_long_is_read_anew(lm):
    prompt = parity.prompt_of(lm, seconds_for(lm, LIMIT + 3))
    embeds, positions = prompt.inputs_embeds, prompt.position_ids
    expected = DecoderState(lm, lm.new_cache()).read(embeds, positions)
    shared = DecoderState(lm, lm.new_cache())
    shared.read(embeds[:, :-10], positions[:, :-10])
    for _ in range(2):  # what was read can be read on from more than once
        fork = DecoderState(lm, lm.fork_cache(shared.cache))
        found = fork.read(embeds[:, -10:], positions[:, -10:])
        torch.testing.assert_close(found, expected[:, -10:], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("position", ["repacked", "original"])
@pytest.mark.parametrize("seconds", [3.0, 30.0])
def test_a_pruned_prompt_is_read_as_the_stock_decoder_reads_it(lm, stock, position, seconds):
    from transformers import DynamicCache

    embeds = stock_embeds(lm, stock, seconds)
    places = parity.kept_places(lm, seconds, step=3)
    positions = places if position == "original" else torch.arange(len(places))
    hidden = stock.model(
        inputs_embeds=embeds[:, places], position_ids=positions[None], cache=DynamicCache()
    ).last_hidden_state
    prompt = parity.prompt_of(lm, seconds, step=3, position=position)
    assert torch.equal(prompt.position_ids, positions[None])
    assert (lm.prefill(prompt)[1] - stock.lm_head(hidden[0, -1])).abs().max() == 0.0


@torch.inference_mode()
def test_the_adapter_matters(lm, tiny_phi4_folder):
    from transformers import Phi4MultimodalForCausalLM

    without = Phi4MultimodalForCausalLM.from_pretrained(tiny_phi4_folder).eval()
    inputs = inputs_of(lm, 3.0)
    assert (without(**inputs).logits - lm.model(**inputs).logits).abs().max() > 0.01


@pytest.mark.parametrize("seconds", [0.4, 30.0, 40.1])
def test_torch_counts_the_same_encoder(lm, seconds):
    from transformers import Phi4MultimodalForCausalLM

    frames = lm.shape.encoder.frames(round(seconds * SAMPLE_RATE))
    with torch.device("meta"):
        model = Phi4MultimodalForCausalLM._from_config(lm.model.config, attn_implementation="sdpa")
        embed, features = model.model.embed_tokens_extend.audio_embed, torch.empty(1, frames, 80)
    embed.encoder._streaming_mask = lambda steps, *_: torch.empty(1, steps, steps, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        embed.down_proj_for_speech(embed.up_proj_for_speech(embed.encoder(features, None)))
    assert counter.get_total_flops() == lm.shape.encoder.flops(seconds, lm.hidden_size)


def test_torch_counts_the_same_decoder_with_its_adapter(lm):
    told = lm.shape.decoder
    names = ("down_proj", "gate_up_proj", "o_proj", "qkv_proj")
    assert (told.adapter_rank, told.adapter_modules) == (4, names)
    parity.assert_decoder_is_counted(lm)


def test_the_first_layer_is_cut_out_of_the_fused_one(lm):
    fused = lm.model.model.layers[0].self_attn.qkv_proj
    hidden, layer = torch.randn(2, 64), lm.first_layer()
    found = torch.cat([hidden @ layer.q_weight.T, hidden @ layer.k_weight.T], dim=1)
    torch.testing.assert_close(found, fused(hidden)[:, :96])


def test_random_weights_come_with_an_adapter_and_small_eyes(lm):
    from speechprune_cli.device import place

    made = type(lm).random(lm.preset, lm.shape, place("cpu"))
    parity.assert_decoder_is_counted(made)
    assert made.model.config.vision_config.num_hidden_layers == 2


def test_a_question_with_the_audio_marker_is_refused(lm):
    with pytest.raises(UsageError, match="must not contain"):
        lm.prompt_ids("What does <|AUDIO|> mean?")


def test_what_stays_unquantised_is_there(lm):
    for name in lm.unquantised:
        assert lm.model.get_submodule(name)


@torch.inference_mode()
def test_shards_with_the_published_names_are_loaded(tiny_phi4_folder, tmp_path, lm):
    """Names as in refs/pr/70 of microsoft/Phi-4-multimodal-instruct, which transformers' converter
    of that model wrote: those of the native class, as no conversion is listed for it."""
    folder = shutil.copytree(tiny_phi4_folder, tmp_path / "published")
    names = parity.shard(folder)
    assert "model.layers.0.self_attn.qkv_proj.weight" in names
    encoder = "model.embed_tokens_extend.audio_embed.encoder.encoders.0"
    assert f"{encoder}.feed_forward_in.gate_up_proj.weight" in names
    found = load(str(folder), device="cpu", cache=False).model
    prompt = parity.prompt_of(lm, 3.0)
    assert torch.equal(found.prefill(prompt)[1], lm.prefill(prompt)[1])
