"""Phi-4-multimodal against the stock model, its adapter on: same tokens, same logits."""

from __future__ import annotations

import pytest
import torch
from conftest import make_audio
from parity import Parity, flops_of, preset_is_the_model, prompt_of, same_answer
from tiny_families import TINY
from tiny_models import QUESTION
from tiny_phi4 import LIMIT

from speechprune_cli import load
from speechprune_cli.backends.decoding import DecoderState
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_phi4_folder):
    return load(str(tiny_phi4_folder), device="cpu", cache=False).model


class TestParity(Parity):
    """71.3 s and 200 s make long prompts."""

    tiny = TINY["phi4_multimodal"]


def prompt_for(lm, length):
    """Of so many tokens."""
    return prompt_of(lm, make_audio(seconds_for(lm, length)), TINY["phi4_multimodal"].at_once)


def seconds_for(lm, length):
    """A recording whose whole prompt has so many tokens."""
    ids = lm.prompt_ids(QUESTION)
    return (length - len(ids.before) - len(ids.after)) * 0.08


def test_an_answer_that_makes_the_prompt_a_long_one_is_the_stock_model_s(lm):
    tiny, prompt = TINY["phi4_multimodal"], prompt_for(lm, LIMIT - 4)
    assert prompt.inputs_embeds.shape[1] == LIMIT - 4
    inputs = tiny.inputs(lm, make_audio(seconds_for(lm, LIMIT - 4)))
    assert same_answer(lm, prompt, tiny.tokens(lm, tiny.stock(lm), inputs))


@torch.inference_mode()
def test_short_and_long_prompts_side_by_side_are_read_as_one_by_one(lm):
    lengths = (LIMIT - 60, LIMIT - 4, LIMIT + 40)
    prompts = [prompt_for(lm, length) for length in lengths]
    alone = [lm.generate(each, max_new_tokens=12).text for each in prompts]
    assert [each.text for each in lm.generate_batch(prompts, max_new_tokens=12)] == alone


@torch.inference_mode()
def test_a_shared_beginning_that_becomes_long_is_read_anew(lm):
    prompt = prompt_for(lm, LIMIT + 3)
    embeds, positions = prompt.inputs_embeds, prompt.position_ids
    expected = DecoderState(lm, lm.new_cache()).read(embeds, positions)
    shared = DecoderState(lm, lm.new_cache())
    shared.read(embeds[:, :-10], positions[:, :-10])
    for _ in range(2):  # what was read can be read on from more than once
        fork = DecoderState(lm, lm.fork_cache(shared.cache))
        found = fork.read(embeds[:, -10:], positions[:, -10:])
        torch.testing.assert_close(found, expected[:, -10:], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_adapter_matters(lm, tiny_phi4_folder):
    from transformers import Phi4MultimodalForCausalLM

    without = Phi4MultimodalForCausalLM.from_pretrained(tiny_phi4_folder).eval()
    inputs = TINY["phi4_multimodal"].inputs(lm, make_audio(3.0))
    assert (without(**inputs).logits - lm.model(**inputs).logits).abs().max() > 0.01


@pytest.mark.parametrize("seconds", [0.4, 30.0, 40.1])
def test_torch_counts_the_same_encoder(lm, seconds):
    from transformers import Phi4MultimodalForCausalLM

    frames = lm.shape.encoder.frames(round(seconds * SAMPLE_RATE))
    with torch.device("meta"):
        model = Phi4MultimodalForCausalLM._from_config(lm.model.config, attn_implementation="sdpa")
        embed, features = model.model.embed_tokens_extend.audio_embed, torch.empty(1, frames, 80)
    embed.encoder._streaming_mask = lambda steps, *_: torch.empty(1, steps, steps, device="meta")
    found = flops_of(
        lambda: embed.down_proj_for_speech(embed.up_proj_for_speech(embed.encoder(features, None)))
    )
    assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)


def test_the_shape_knows_the_adapter(lm):
    told = lm.shape.decoder
    names = ("down_proj", "gate_up_proj", "o_proj", "qkv_proj")
    assert (told.adapter_rank, told.adapter_modules) == (4, names)


def test_the_first_layer_is_cut_out_of_the_fused_one(lm):
    fused = lm.model.model.layers[0].self_attn.qkv_proj
    hidden, layer = torch.randn(2, 64), lm.first_layer()
    found = torch.cat([hidden @ layer.q_weight.T, hidden @ layer.k_weight.T], dim=1)
    torch.testing.assert_close(found, fused(hidden)[:, :96])


def test_random_weights_come_with_small_eyes(lm):
    from speechprune_cli.device import place

    made = type(lm).random(lm.preset, lm.shape, place("cpu"))
    assert made.model.config.vision_config.num_hidden_layers == 2


def test_a_question_with_the_audio_marker_is_refused(lm):
    with pytest.raises(UsageError, match="must not contain"):
        lm.prompt_ids("What does <|AUDIO|> mean?")


def test_names_are_the_published_ones(lm):
    """Those in refs/pr/70 of microsoft/Phi-4-multimodal-instruct, which transformers' converter
    of that model wrote: those of the native class, as no conversion is listed for it."""
    names = TINY["phi4_multimodal"].published(lm)
    assert "model.layers.0.self_attn.qkv_proj.weight" in names
    encoder = "model.embed_tokens_extend.audio_embed.encoder.encoders.0"
    assert f"{encoder}.feed_forward_in.gate_up_proj.weight" in names


def test_the_preset_is_counted_as_it_is_built():
    from transformers import Phi4MultimodalVisionConfig

    eyes = Phi4MultimodalVisionConfig()
    preset_is_the_model("phi-4-multimodal", vision_config=eyes, tie_word_embeddings=True)
