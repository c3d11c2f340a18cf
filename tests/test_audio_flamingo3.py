"""Audio Flamingo 3 and Music Flamingo against the stock models and their processors."""

from __future__ import annotations

import pytest
import torch
from conftest import make_audio
from parity import Parity, flops_of, preset_is_the_model
from tiny_families import TINY
from tiny_flamingo import asked
from tiny_models import QUESTION

from speechprune_cli import load
from speechprune_cli.audio import write_audio
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE

FOLDERS = ("tiny_flamingo_folder", "tiny_music_flamingo_folder")


@pytest.fixture(scope="module", params=FOLDERS)
def session(request):
    return load(str(request.getfixturevalue(request.param)), device="cpu", cache=False)


@pytest.fixture(scope="module")
def lm(session):
    return session.model


class TestParity(Parity):
    tiny = TINY["audio_flamingo3"]


@torch.no_grad()
def test_the_stock_model_knows_no_window_without_a_token(tiny_music_flamingo_folder):
    """Which is why the one at the end of 30.01 s is not among what it is given above."""
    lm = load(str(tiny_music_flamingo_folder), device="cpu", cache=False).model
    inputs = asked(lm, make_audio(30.01).samples)
    with pytest.raises(IndexError):
        lm.model(**inputs)


def test_times_are_those_of_the_frames(lm):
    """Music Flamingo's own: 0.04 s from token to token, begun anew in no window."""
    times = lm.encode(make_audio(71.3)).times
    assert times[:3, 0].tolist() == pytest.approx([0, 0.04, 0.08])
    assert times[[750, 1500]].flatten().tolist() == pytest.approx([30, 30.04, 60, 60.04])


@pytest.mark.slow
def test_what_the_stock_processor_would_cut_is_heard_and_said(session):
    lm = session.model
    cut = lm.processor.max_audio_len
    assert cut == {"audio_flamingo3": 600, "music_flamingo": 1200}[lm.family]
    tokens = lm.encode(make_audio(cut + 31))
    assert len(tokens) == 25 * cut + 775
    assert tokens.times[-1, 1] == pytest.approx(cut + 31)
    (told,) = session.doubts(tokens)
    assert f"was made for {cut:,} s at most" in told
    assert not session.doubts(lm.encode(make_audio(3)))


def test_a_recording_that_is_too_long_is_told_on_the_command_line(
    tiny_flamingo_folder, tmp_path, capsys
):
    from speechprune_cli.main import main

    preset, sound = tmp_path / "short.yaml", tmp_path / "sound.wav"
    preset.write_text(f"name: short\nsource: {tiny_flamingo_folder}\nlongest_seconds: 20\n")
    write_audio(sound, make_audio(34.0).samples, SAMPLE_RATE)
    assert main(["ask", str(sound), QUESTION, "-m", str(preset)]) == 0
    assert "34 s: short was made for 20 s at most; all of it is heard" in capsys.readouterr().err


def test_a_question_with_the_placeholder_is_refused(lm):
    with pytest.raises(UsageError, match="must not contain <sound>"):
        lm.prompt_ids("What is <sound>?")


def test_torch_counts_the_same(lm):
    """Of Music Flamingo without the turning, which is element-wise."""

    def encode(model):
        mask = torch.ones(2, 3000, dtype=torch.long)
        found = model.model.audio_tower(torch.zeros(2, 80, 3000), input_features_mask=mask)
        model.model.multi_modal_projector(found.last_hidden_state)

    assert flops_of(lambda: encode(lm.model)) == lm.shape.encoder.flops(60, lm.hidden_size)


@pytest.mark.parametrize("name", ["audio-flamingo-3", "music-flamingo", "audio-flamingo-next"])
def test_presets_are_counted_as_they_are_built(name):
    preset_is_the_model(name)
