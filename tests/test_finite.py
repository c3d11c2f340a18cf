"""NaN and infinity, wherever they come up: an error that says where, and never an answer."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
import torch
from conftest import make_audio
from safetensors.torch import load_file, save_file

from speechprune_cli.cache import TokenCache
from speechprune_cli.errors import AudioError, NumericError
from speechprune_cli.flow import SAMPLE_RATE, Audio
from speechprune_cli.main import main
from speechprune_cli.pipeline import Session, load

QUESTION = "When is the report due?"
CHOICES = ["on Friday", "in the red house"]
WEIGHTS = (
    "layers.1.mlp.down_proj.weight",
    "embed_tokens.weight",
    "audio_tower.layers.0.fc1.weight",
    "projector.linear.weight",
)


@pytest.fixture(scope="module", params=WEIGHTS)
def damaged(request, tiny_model_folder, tmp_path_factory):
    """A model folder with one weight that is no number, and that weight's name."""
    folder = tmp_path_factory.mktemp("damaged") / "model"
    shutil.copytree(tiny_model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(each for each in weights if each.endswith(request.param))
    weights[name][0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder, name


@pytest.mark.parametrize("choices", [[], CHOICES])
def test_a_damaged_weight_is_named(damaged, choices, tmp_path, capfd):
    folder, name = damaged
    recording = tmp_path / "a.wav"
    soundfile.write(recording, make_audio(3.0).samples, SAMPLE_RATE)
    options = [each for choice in choices for each in ("--choice", choice)]
    code = main(["ask", str(recording), QUESTION, "--model", str(folder), *options])
    out, err = capfd.readouterr()
    assert (code, out) == (4, "")
    assert f"the weight {name} holds NaN or infinity" in err
    assert err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err


def spoilt(model, layer):
    """As if the numbers of that layer had become too large."""
    projection = model.model.get_decoder().layers[layer].mlp.down_proj
    return projection.register_forward_hook(lambda *_: torch.full_like(_[-1], torch.inf))


@pytest.mark.parametrize(
    ("layer", "place"), [(0, "its decoder from layer 1 on"), (1, "the output of its last layer")]
)
def test_an_overflow_says_from_which_layer(tiny_model_folder, layer, place):
    session = load(str(tiny_model_folder), cache=False)
    spoilt(session.model, layer)
    for choices in ([], CHOICES):
        with pytest.raises(NumericError, match=f"{place} is NaN or infinite in float32"):
            session.ask(make_audio(2.0), QUESTION, choices=choices)


def test_an_overflow_within_an_answer(tiny_model_folder):
    session = load(str(tiny_model_folder), cache=False)
    tokens = session.encode(make_audio(2.0))
    selection = session.prune(tokens, QUESTION)
    with pytest.raises(NumericError):
        session.answer(tokens, selection, QUESTION, on_text=lambda _: spoilt(session.model, 0))


def test_an_encoder_that_overflows_says_when_and_is_not_kept(tiny_model_folder, tmp_path):
    cache = TokenCache(tmp_path / "tokens")
    session = Session(load(str(tiny_model_folder)).model, cache)
    projector, seen = session.model.model.model.multi_modal_projector, []

    def second_window(_module, _inputs, output):
        output = output.clone()
        output[1:] = torch.nan
        return output

    handle = projector.register_forward_hook(second_window)
    with pytest.raises(NumericError, match=r"from 30.00 s to 3\d.\d\d s is NaN") as caught:
        session.encode(make_audio(35.0))
    assert "another model" in str(caught.value)
    handle.remove()
    assert not seen
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not session.encode(make_audio(35.0)).from_cache


@pytest.mark.parametrize("wrong", [1e30, -1e12, np.inf, np.nan])
def test_samples_that_are_no_sound_say_when(tiny_model_folder, wrong):
    samples = make_audio(2.0).samples.copy()
    samples[8000:8160] = wrong
    session = load(str(tiny_model_folder), cache=False)
    with pytest.raises(AudioError, match=r"^loud.wav: the sample at 0\.500 s is"):
        session.encode(Audio(samples, "loud.wav", "", SAMPLE_RATE, 1, 2.0))


def test_a_file_of_huge_samples(tiny_model_folder, tmp_path, capfd):
    path = tmp_path / "loud.wav"
    soundfile.write(path, make_audio(2.0).samples * 1e30, SAMPLE_RATE, subtype="FLOAT")
    assert main(["ask", str(path), QUESTION, "--model", str(tiny_model_folder)]) == 3
    assert "the sample at 0.000 s is 6e+27, full scale is 1" in capfd.readouterr().err
