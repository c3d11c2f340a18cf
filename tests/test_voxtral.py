"""Voxtral against the stock model and mistral-common: same tokens, same logits, same prompt."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import soundfile
import torch
from conftest import make_audio
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import load
from speechprune_cli.backends.voxtral import VoxtralShape
from speechprune_cli.flow import SAMPLE_RATE, Selection

QUESTION = "When is the report due?"
LENGTHS = (0.4, 3.0, 30.0, 30.01, 71.3)


@pytest.fixture(scope="module")
def lm(tiny_voxtral_folder):
    return load(str(tiny_voxtral_folder), device="cpu", cache=False).model


def whole_prompt(lm, audio):
    tokens = lm.encode(audio)
    everything = torch.arange(len(tokens))
    selection = Selection(everything, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)
    return lm.build_prompt(tokens, selection, QUESTION)


def conversation(audio):
    """As the model's page has it: the recording, then the question."""
    file = io.BytesIO()
    soundfile.write(file, audio.samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    sound = base64.b64encode(file.getvalue()).decode()
    content = [{"type": "audio", "base64": sound}, {"type": "text", "text": QUESTION}]
    return [{"role": "user", "content": content}]


@torch.inference_mode()
@pytest.mark.parametrize("seconds", LENGTHS)
def test_with_nothing_pruned_the_logits_are_the_stock_model_s(lm, seconds):
    audio = make_audio(seconds)
    inputs = lm.processor.apply_chat_template(conversation(audio))
    stock = lm.model(**inputs).logits
    prompt = whole_prompt(lm, audio)
    ours = lm.model(inputs_embeds=prompt.inputs_embeds, position_ids=prompt.position_ids).logits
    assert ours.shape == stock.shape
    assert (ours - stock).abs().max() == 0.0
    torch.testing.assert_close(lm.prefill(prompt)[1], stock[0, -1], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [3.0, 71.3])
def test_generate_gives_the_stock_model_s_tokens(lm, seconds):
    audio = make_audio(seconds)
    inputs = lm.processor.apply_chat_template(conversation(audio))
    told = lm.model.generate(**inputs, do_sample=False, max_new_tokens=20)
    stock = told[0, inputs["input_ids"].shape[1] :].tolist()
    answer = lm.generate(whole_prompt(lm, audio), max_new_tokens=20)
    ended = stock[-1] in lm.end_tokens
    assert (answer.finished, answer.new_tokens) == (ended, len(stock) - ended)
    assert answer.text == lm.text_of(stock).strip()


@pytest.mark.parametrize("seconds", LENGTHS)
def test_the_prompt_is_mistral_common_s(lm, seconds):
    """Their tokenizer alone, without transformers' processor around it."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tekken = MistralTokenizer.from_file(str(lm.checkpoint.folder / "tekken.json"))
    message = conversation(make_audio(seconds))[0]
    sound, text = message["content"]
    sound = {"type": "input_audio", "input_audio": {"data": sound["base64"], "format": "wav"}}
    request = ChatCompletionRequest.from_openai([{"role": "user", "content": [sound, text]}])
    expected = tekken.encode_chat_completion(request).tokens
    ids, count = lm.prompt_ids(QUESTION), lm.shape.audio_tokens(seconds)
    assert [*ids.before, *[24] * count, *ids.after] == expected


def test_words_that_look_like_markers_are_words(lm):
    ids = lm.prompt_ids("What does [AUDIO] mean? [/INST]")
    assert 24 not in (*ids.before, *ids.after)
    assert ids.after.count(4) == 1, "the instruction ends once"


@pytest.mark.parametrize(
    ("seconds", "tokens"), [(0.4, 375), (29.99, 375), (30, 375), (30.01, 750), (71.3, 1125)]
)
def test_counted_by_its_own_rules(seconds, tokens):
    shape = VoxtralShape(
        d_model=1280,
        encoder_layers=32,
        encoder_attention_heads=20,
        encoder_ffn_dim=5120,
        num_mel_bins=128,
        max_source_positions=1500,
    )
    assert shape.tokens(round(seconds * SAMPLE_RATE)) == tokens
    assert (shape.input_tokens, shape.per_second, shape.own_input) == (375, 12.5, False)


def test_the_silence_added_behind_the_end_has_no_length(lm):
    tokens = lm.encode(make_audio(31.0))
    start, end = tokens.times.T
    assert len(tokens) == 750
    assert int((end > start).sum()) == int(np.ceil(31 * 12.5))


def test_torch_counts_the_same_encoder(lm):
    """On the meta device, where torch counts attention too."""
    from transformers import VoxtralForConditionalGeneration

    config = lm.model.config
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = VoxtralForConditionalGeneration._from_config(config, attn_implementation="sdpa")
        model.model.get_audio_features(torch.empty(2, 80, 3000))
    assert counter.get_total_flops() == lm.shape.encoder.flops(60, lm.hidden_size)
