"""Granite Speech against the stock model, its adapter on: same tokens, same logits."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import parity
import pytest
import torch
from conftest import make_audio
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import load
from speechprune_cli.backends.granite_speech import SYSTEM, mel_frames
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_granite_folder):
    return load(str(tiny_granite_folder), device="cpu", cache=False).model


@pytest.fixture(scope="module")
def stock(tiny_granite_folder):
    """As transformers loads it by itself, with peft."""
    from transformers import GraniteSpeechForConditionalGeneration

    return GraniteSpeechForConditionalGeneration.from_pretrained(tiny_granite_folder).eval()


def inputs_of(lm, seconds):
    ids = parity.expected_ids(lm, seconds, lm.model.config.audio_token_id)
    features = mel_frames(make_audio(seconds).samples, 80).unsqueeze(0)
    return {"input_ids": ids, "input_features": features}


@torch.inference_mode()
@pytest.mark.parametrize("seconds", parity.LENGTHS)
def test_with_nothing_pruned_the_logits_are_the_stock_model_s(lm, stock, seconds):
    expected = stock(**inputs_of(lm, seconds)).logits
    prompt = parity.prompt_of(lm, seconds)
    ours = lm.model(inputs_embeds=prompt.inputs_embeds, position_ids=prompt.position_ids).logits
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() == 0.0
    torch.testing.assert_close(lm.prefill(prompt)[1], expected[0, -1], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_adapter_matters(lm, stock):
    from peft.tuners.tuners_utils import BaseTunerLayer

    inputs = inputs_of(lm, 3.0)
    with_adapter = stock(**inputs).logits
    adapted = [each for each in stock.modules() if isinstance(each, BaseTunerLayer)]
    for layer in adapted:
        layer.enable_adapters(False)
    without = stock(**inputs).logits
    for layer in adapted:
        layer.enable_adapters(True)
    assert (with_adapter - without).abs().max() > 0.01


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [3.0, 71.3])
def test_generate_gives_the_stock_model_s_tokens(lm, stock, seconds):
    from transformers import GenerationMixin

    inputs = inputs_of(lm, seconds)
    # the class's own first turns the adapter on, which it is, and refuses peft 0.21 for that
    told = GenerationMixin.generate(stock, **inputs, do_sample=False, max_new_tokens=20)
    parity.same_answer(lm, seconds, told[0, inputs["input_ids"].shape[1] :].tolist(), 20)


@torch.inference_mode()
@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_pruned_prompt_is_read_as_the_stock_decoder_reads_it(lm, stock, position):
    from transformers import DynamicCache

    seen = []
    hook = stock.model.language_model.register_forward_pre_hook(
        lambda module, _, named: seen.append(named["inputs_embeds"]), with_kwargs=True
    )
    stock(**inputs_of(lm, 3.0))
    hook.remove()
    places = parity.kept_places(lm, 3.0, step=3)
    positions = places if position == "original" else torch.arange(len(places))
    hidden = stock.model.language_model(
        inputs_embeds=seen[0][:, places], position_ids=positions[None], cache=DynamicCache()
    ).last_hidden_state
    prompt = parity.prompt_of(lm, 3.0, step=3, position=position)
    assert torch.equal(prompt.position_ids, positions[None])
    assert (lm.prefill(prompt)[1] - stock.lm_head(hidden[0, -1])).abs().max() == 0.0


@pytest.mark.parametrize("seconds", parity.LENGTHS)
def test_counted_by_the_processor_s_own_rules(lm, seconds):
    from transformers import GraniteSpeechFeatureExtractor

    samples = round(seconds * SAMPLE_RATE)
    rules = SimpleNamespace(
        melspec_kwargs={"hop_length": 160}, projector_window_size=15, projector_downsample_rate=5
    )
    counts = GraniteSpeechFeatureExtractor._get_num_audio_features(rules, [samples])
    assert [lm.shape.encoder.tokens(samples)] == counts


def test_three_tokens_share_what_they_heard(lm):
    times = lm.encode(make_audio(1.0)).times
    expected = [[0.0, 0.3]] * 3 + [[0.3, 0.6]] * 3 + [[0.6, 0.9]] * 3 + [[0.9, 1.0]] * 3
    torch.testing.assert_close(times, torch.tensor(expected))


def test_mel_frames_are_those_of_the_stock_extractor():
    """By transformers' own spectrogram in float64, as the extractor goes on with torchaudio's."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    samples = make_audio(3.005).samples
    filters = mel_filter_bank(257, 80, 0, 8000, 16_000, mel_scale="htk")
    window = window_function(400, "hann")
    mel = spectrogram(samples, window, 400, 160, 512, power=2.0, mel_filters=filters).T
    logs = np.log10(np.maximum(mel, 1e-10))
    expected = np.maximum(logs, logs.max() - 8) / 4 + 1
    expected = expected[: len(expected) // 2 * 2].reshape(-1, 160)
    found = mel_frames(samples, 80).numpy()
    assert found.shape == expected.shape == (150, 160)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_template_that_writes_the_date_is_told_a_system_message(lm, monkeypatch):
    dated = "{{ strftime_now('%Y') }}" + lm.tokenizer.chat_template
    assert SYSTEM not in lm.prompt_ids("When?").text
    monkeypatch.setattr(lm.tokenizer, "chat_template", dated)
    assert SYSTEM in lm.prompt_ids("When?").text


def test_a_question_with_the_audio_marker_is_refused(lm):
    with pytest.raises(UsageError, match="must not contain"):
        lm.prompt_ids("What does <|AUDIO|> mean?")


@pytest.mark.parametrize("seconds", [0.4, 30.01])
def test_torch_counts_the_same_encoder(lm, seconds):
    from transformers import GraniteSpeechForConditionalGeneration

    steps = lm.shape.encoder.steps(round(seconds * SAMPLE_RATE))
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = GraniteSpeechForConditionalGeneration._from_config(
            lm.model.config, attn_implementation="sdpa"
        )
        model.get_audio_features(torch.empty(1, steps, 160))
    assert counter.get_total_flops() == lm.shape.encoder.flops(seconds, lm.hidden_size)


def test_torch_counts_the_same_decoder_with_its_adapter(lm):
    assert lm.shape.decoder.adapter_rank == 4
    assert lm.shape.decoder.adapter_modules == ("q_proj", "v_proj")
    parity.assert_decoder_is_counted(lm)


def test_the_first_layer_has_what_the_adapter_adds(lm):
    projection = lm.model.model.language_model.layers[0].self_attn.q_proj
    hidden = torch.randn(2, 64)
    torch.testing.assert_close(hidden @ lm.first_layer().q_weight.T, projection(hidden))


def test_random_weights_come_with_an_adapter(lm):
    from speechprune_cli.device import place

    made = type(lm).random(lm.preset, lm.shape, place("cpu"))
    parity.assert_decoder_is_counted(made)


def test_what_stays_unquantised_is_there(lm):
    for name in lm.unquantised:
        assert lm.model.get_submodule(name)


@torch.no_grad()
def test_plus_gives_its_stock_model_s_logits(tiny_granite_plus_folder):
    from transformers import GraniteSpeechPlusForConditionalGeneration as Plus

    lm = load(str(tiny_granite_plus_folder), device="cpu", cache=False).model
    inputs = inputs_of(lm, 71.3)
    expected = Plus.from_pretrained(tiny_granite_plus_folder)(**inputs).logits
    prompt = parity.prompt_of(lm, 71.3)
    ours = lm.model(inputs_embeds=prompt.inputs_embeds, position_ids=prompt.position_ids).logits
    assert (ours - expected).abs().max() == 0.0
    told = lm.model.generate(**inputs, do_sample=False, max_new_tokens=20)
    parity.same_answer(lm, 71.3, told[0, inputs["input_ids"].shape[1] :].tolist(), 20)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = Plus._from_config(lm.model.config, attn_implementation="sdpa")
        model.get_audio_features(torch.empty(1, 1500, 160))
    assert counter.get_total_flops() == lm.shape.encoder.flops(30, lm.hidden_size)


class TestPublishedFiles:
    """Tensor names as in ibm-granite/granite-speech-3.3-2b: transformers writes them back so
    (`conversion_mapping.py`), and its checkpoint's index has them."""

    @pytest.fixture
    def folder(self, tiny_granite_folder, tmp_path):
        return shutil.copytree(tiny_granite_folder, tmp_path / "published")

    @torch.inference_mode()
    def test_shards_are_loaded(self, folder, lm):
        names = parity.shard(folder)
        assert {name.split(".")[0] for name in names} == {"encoder", "projector", "language_model"}
        assert "language_model.model.layers.0.self_attn.q_proj.weight" in names
        found = load(str(folder), device="cpu", cache=False).model
        prompt = parity.prompt_of(lm, 3.0)
        assert torch.equal(found.prefill(prompt)[1], lm.prefill(prompt)[1])

    def test_a_missing_weight_is_named_in_spite_of_the_adapter(self, folder):
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        weights.pop("encoder.layers.0.ff1.up_proj.weight")
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=r"1 weights missing, as .*ff1.up_proj.weight"):
            load(str(folder), device="cpu", cache=False)

    def test_an_adapter_that_lacks_a_weight_is_refused(self, folder):
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "adapter_model.safetensors")
        weights.popitem()
        save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=r"1 weights missing, as .*lora_"):
            load(str(folder), device="cpu", cache=False)

    def test_an_adapter_without_its_file_is_refused(self, folder):
        (folder / "adapter_model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"adapter_model\.safetensors is missing"):
            load(str(folder), device="cpu", cache=False)

    def test_without_peft_it_is_said_what_to_install(self, folder, monkeypatch):
        monkeypatch.setattr("speechprune_cli.extras.find_spec", lambda _: None)
        with pytest.raises(UsageError, match=r"needs peft: pip install 'speechprune\[lora\]'"):
            load(str(folder), device="cpu", cache=False)
