"""Granite Speech against the stock model, its adapter on: same tokens, same logits."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_audio
from parity import LENGTHS, Parity, flops_of, preset_is_the_model
from tiny_families import TINY
from tiny_models import save_sharded, stored

from speechprune_cli import load
from speechprune_cli.backends.granite_speech import SYSTEM, log_mel
from speechprune_cli.config import list_presets
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_granite_folder):
    return load(str(tiny_granite_folder), device="cpu", cache=False).model


@pytest.fixture(scope="module")
def plus(tiny_granite_plus_folder):
    return load(str(tiny_granite_plus_folder), device="cpu", cache=False).model


class TestParity(Parity):
    tiny = TINY["granite_speech"]


@pytest.mark.slow
class TestPlusParity(Parity):
    tiny = TINY["granite_speech_plus"]

    @pytest.fixture(scope="class")
    @classmethod
    def lm(cls, plus):
        return plus


@torch.inference_mode()
def test_the_adapter_matters(lm):
    from peft.tuners.tuners_utils import BaseTunerLayer

    tiny = TINY["granite_speech"]
    stock, inputs = tiny.stock(lm), tiny.inputs(lm, make_audio(3.0))
    with_adapter = stock(**inputs).logits
    adapted = [each for each in stock.modules() if isinstance(each, BaseTunerLayer)]
    for layer in adapted:
        layer.enable_adapters(False)
    without = stock(**inputs).logits
    for layer in adapted:
        layer.enable_adapters(True)
    assert (with_adapter - without).abs().max() > 0.01


@pytest.mark.parametrize("seconds", LENGTHS)
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


def test_log_mel_are_those_of_the_stock_extractor():
    """By transformers' own spectrogram in float64, as the extractor goes on with torchaudio's."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    samples = make_audio(3.005).samples
    filters = mel_filter_bank(257, 80, 0, 8000, 16_000, mel_scale="htk")
    window = window_function(400, "hann")
    mel = spectrogram(samples, window, 400, 160, 512, power=2.0, mel_filters=filters).T
    logs = np.log10(np.maximum(mel, 1e-10))
    expected = np.maximum(logs, logs.max() - 8) / 4 + 1
    expected = expected[: len(expected) // 2 * 2].reshape(-1, 160)
    found = log_mel(samples, 80).numpy()
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
@pytest.mark.parametrize("name", ["lm", "plus"])
def test_torch_counts_the_same_encoder(request, name, seconds):
    lm = request.getfixturevalue(name)
    features = torch.zeros(1, lm.shape.encoder.steps(round(seconds * SAMPLE_RATE)), 160)
    found = flops_of(lambda: lm.model.get_audio_features(features))
    assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)


def test_the_shape_knows_the_adapter(lm):
    assert lm.shape.decoder.adapter_rank == 64
    assert lm.shape.decoder.adapter_modules == ("q_proj", "v_proj")


@pytest.mark.parametrize("name", [name for name in list_presets() if "granite" in name])
def test_presets_are_counted_as_they_are_built(name):
    """From 4.0 on the output head has weights of its own."""
    preset_is_the_model(name, tie_word_embeddings="3.3" in name)


def test_the_first_layer_has_what_the_adapter_adds(lm):
    projection = lm.model.model.language_model.layers[0].self_attn.q_proj
    hidden = torch.randn(2, 64)
    torch.testing.assert_close(hidden @ lm.first_layer().q_weight.T, projection(hidden))


class TestPublishedFiles:
    """Tensor names as in ibm-granite/granite-speech-3.3-2b: transformers writes them back so
    (`conversion_mapping.py`), and its checkpoint's index has them."""

    @pytest.fixture
    def folder(self, tiny_granite_folder, tmp_path):
        return shutil.copytree(tiny_granite_folder, tmp_path / "published")

    def test_names(self, folder):
        names = stored(folder)
        assert {name.split(".")[0] for name in names} == {"encoder", "projector", "language_model"}
        assert "language_model.model.layers.0.self_attn.q_proj.weight" in names

    def test_a_missing_weight_is_named_in_spite_of_the_adapter(self, folder):
        weights = stored(folder)
        weights.pop("encoder.layers.0.ff1.up_proj.weight")
        save_sharded(folder, weights)
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


def test_a_damaged_adapter_is_an_error(tiny_granite_folder, tmp_path):
    folder = shutil.copytree(tiny_granite_folder, tmp_path / "model")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is damaged or cut short"):
        load(str(folder), device="cpu", cache=False)
