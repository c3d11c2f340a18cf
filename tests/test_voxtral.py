"""Voxtral against the stock model and mistral-common: same tokens, same logits, same prompt."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import make_audio
from parity import LENGTHS, Parity, flops_of, preset_is_the_model
from tiny_families import TINY
from tiny_models import QUESTION
from tiny_voxtral import conversation

from speechprune_cli import load
from speechprune_cli.backends.voxtral import VoxtralShape
from speechprune_cli.checkpoint import UNWANTED, WANTED
from speechprune_cli.device import PeakMemory
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_voxtral_folder):
    return load(str(tiny_voxtral_folder), device="cpu", cache=False).model


class TestParity(Parity):
    tiny = TINY["voxtral"]


@pytest.mark.slow
def test_forty_minutes_are_heard_window_by_window(lm):
    """The longest that it was made for; a window alone has the tokens that it has among eighty."""
    audio, told = make_audio(2400), []
    peak = PeakMemory(lm.device)
    before = peak.bytes()
    tokens = lm.encode(audio, on_progress=lambda *each: told.append(each))
    assert peak.bytes() - before < lm.shape.encoder.bytes(2400, 4), "what is asked for"
    assert len(tokens) == lm.shape.audio_tokens(2400) == 80 * 375
    assert told == [(done, 80) for done in range(4, 81, 4)]
    assert (tokens.times[:, 1] > tokens.times[:, 0]).all()
    assert tokens.times[-1].tolist() == pytest.approx([2400 - 0.08, 2400])
    window = lm.windows(audio)[61]
    alone = lm.encode_windows([window]).tokens
    torch.testing.assert_close(tokens.embeds[61 * 375 : 62 * 375], alone, rtol=1e-5, atol=1e-6)


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


def test_torch_counts_the_same(lm):
    found = flops_of(lambda: lm.model.get_audio_features(torch.zeros(2, 80, 3000)))
    assert found == lm.shape.encoder.flops(60, lm.hidden_size)


def test_a_tokenizer_that_mistral_common_does_not_take_is_named(tiny_voxtral_folder, tmp_path):
    copy = shutil.copytree(tiny_voxtral_folder, tmp_path / "copy")
    told = json.loads((copy / "tekken.json").read_text())
    told["vocab"].reverse()
    (copy / "tekken.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="no usable tokenizer"):
        load(str(copy), device="cpu", cache=False)


@pytest.mark.parametrize("name", ["voxtral-mini", "voxtral-small"])
def test_presets_are_counted_as_they_are_built(name):
    preset_is_the_model(name)


def test_weights_are_fetched_in_one_layout():
    """The Hub's repository holds them twice."""
    from huggingface_hub.utils import filter_repo_objects

    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    files = [*shards, "model.safetensors.index.json", "config.json", "tekken.json"]
    there = [*files, "consolidated.safetensors", "original/consolidated.00.safetensors"]
    wanted = filter_repo_objects(there, allow_patterns=WANTED, ignore_patterns=UNWANTED)
    assert list(wanted) == files
