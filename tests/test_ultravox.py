"""Ultravox against a forward written out from its configuration and its processor's rules."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from conftest import make_audio
from parity import (
    LENGTHS,
    ComposedParity,
    composed_preset_is_the_model,
    flops_of,
    logits_apart,
    prompt_of,
)
from tiny_families import TINY
from tiny_models import add_weight
from tiny_ultravox import cut, make_tiny_ultravox

from speechprune_cli import costs, load
from speechprune_cli.config import list_presets, load_preset
from speechprune_cli.errors import ModelError
from speechprune_cli.main import main
from speechprune_cli.profiler.architecture import shape_of

CASES = {"llama, 0.5": ("llama", "0.5"), "gemma, 0.4": ("gemma3_text", "0.4")}


@pytest.fixture(scope="module", params=CASES)
def folder(request, tmp_path_factory):
    """Encoder and norm in the middle, or another's encoder and the norm behind."""
    family, version = CASES[request.param]
    return make_tiny_ultravox(tmp_path_factory.mktemp("models") / "ultravox", family, version)


@pytest.fixture(scope="module")
def lm(folder):
    return load(str(folder), device="cpu", cache=False).model


class TestParity(ComposedParity):
    tiny = TINY["ultravox"]
    parts = {"audio_tower", "multi_modal_projector"}  # noqa: RUF012


def test_what_is_too_short_is_filled_up(lm):
    tiny, audio = TINY["ultravox"], make_audio(0.01)
    prompt = prompt_of(lm, audio, tiny.at_once)
    assert logits_apart(lm, tiny.stock(lm), tiny.inputs(lm, audio), prompt) == 0.0


@pytest.mark.parametrize("seconds", [0.01, *LENGTHS])
def test_counts_and_times_are_the_processor_s(lm, seconds):
    audio = make_audio(seconds)
    lengths = [length for _, length in cut(audio.samples)]
    counts = [math.ceil(length / 16) for length in lengths]
    assert lm.shape.audio_tokens(seconds) == sum(counts)
    expected = [
        (30 * window + 0.16 * token, min(30 * window + min(0.16 * (token + 1), 30), seconds))
        for window, count in enumerate(counts)
        for token in range(count)
    ]
    times = lm.times(sum(counts), audio)
    torch.testing.assert_close(times, torch.tensor(expected), rtol=0, atol=1e-4)


def test_attention_is_a_mean_over_positions_of_the_recording(lm):
    """1 is a fair share, of tokens that are cut off too."""
    attention = lm.encode(make_audio(31.0)).attention
    assert float(attention[:187].mean()) == pytest.approx(1, abs=0.05)
    assert float(attention[188:].mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seconds", [3.0, 60.0])
def test_torch_counts_the_same_encoder(lm, seconds):
    windows = lm.windows(make_audio(seconds))
    frames = torch.stack([each for each, _ in windows])
    valid = torch.ones(len(frames), (frames.shape[-1] + 1) // 2, dtype=torch.bool)
    found = flops_of(lambda: lm.project(lm.stacked(lm.listen(frames, valid))))
    assert found == lm.encoder.flops(seconds, lm.hidden_size)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"projector_act": "gelu"}, "projector_act is gelu"),
        ({"audio_latency_block_size": 100}, "audio_latency_block_size is 100"),
        ({"text_model_id": None}, "does not name its text_model_id"),
        ({"hidden_size": 64}, r"linear_1.weight is \[48, 256\], config.json says \[64, 256\]"),
        ({"projector_ln_mid": False}, "weights missing, as multi_modal_projector.ln_post.weight"),
        ({"text_model_id": "meta-llama/gone"}, "hf download meta-llama/gone"),
    ],
)
def test_what_is_not_understood_is_refused_in_a_line(tiny_ultravox_folder, tmp_path, told, words):
    shutil.copytree(tiny_ultravox_folder.parent, tmp_path / "models")
    folder = tmp_path / "models" / tiny_ultravox_folder.name
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **told}))
    with pytest.raises(ModelError, match=words) as error:
        load(str(folder), device="cpu", cache=False)
    assert "\n" not in str(error.value)


def test_an_adapter_of_the_text_model_is_refused(tiny_ultravox_folder, tmp_path):
    """One that was trained: with zeros it changes nothing."""
    shutil.copytree(tiny_ultravox_folder.parent, tmp_path / "models")
    folder = tmp_path / "models" / tiny_ultravox_folder.name
    layer = "language_model.base_model.model.model.layers.0.self_attn.q_proj"
    add_weight(folder, f"{layer}.lora_A.default.weight", torch.ones(2, 2))
    add_weight(folder, f"{layer}.lora_B.default.weight", torch.zeros(2, 2))
    assert load(str(folder), device="cpu", cache=False)
    add_weight(folder, f"{layer}.lora_B.default.weight", torch.ones(2, 2))
    with pytest.raises(ModelError, match=r"lora_B\.default\.weight is an adapter"):
        load(str(folder), device="cpu", cache=False)


@pytest.mark.parametrize("name", [name for name in list_presets() if "ultravox" in name])
def test_presets_are_counted_as_they_are_built(name):
    composed_preset_is_the_model(name, tie_word_embeddings=name == "ultravox-1b")


@pytest.mark.parametrize("name", [name for name in list_presets() if "ultravox" in name])
def test_presets_state_the_published_models(name, capsys):
    """Without weights: sizes of the published files in bytes are those of what they hold."""
    from speechprune_cli.backends.composed import built, weights_of
    from speechprune_cli.backends.ultravox import Ultravox

    preset = load_preset(name)
    shape = shape_of(preset)
    sound = built(lambda: Ultravox.build(shape.encoder, shape.decoder.hidden_size))
    projector = 10240 + 10240 * 4096 + 2048 * shape.decoder.hidden_size + 2048
    assert weights_of(sound) == 636_968_960 + projector
    assert (shape.input_tokens, shape.audio_tokens(90)) == (188, 3 * 188)
    for dtype, size in preset.weights_gb.items():
        counted = costs.weights_bytes(shape.decoder, shape.parameters, dtype) / 1e9
        assert size == pytest.approx(counted, abs=0.006), dtype
    assert preset.needs[-1] in preset.licence, "where its text model's licence is accepted"
    assert main(["profile", name]) == 0
    assert name in capsys.readouterr().out
