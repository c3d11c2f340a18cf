"""GLM-ASR against the stock model and its processor."""

from __future__ import annotations

import pytest
import torch
from conftest import make_audio
from parity import Parity, flops_of, preset_is_the_model
from tiny_families import TINY

from speechprune_cli import load


@pytest.fixture(scope="module")
def session(tiny_glm_asr_folder):
    return load(str(tiny_glm_asr_folder), device="cpu", cache=False)


@pytest.fixture(scope="module")
def lm(session):
    return session.model


class TestParity(Parity):
    tiny = TINY["glm_asr"]


@torch.inference_mode()
def test_the_attention_is_the_encoder_s_own(lm):
    """As its layer computes it, with rotary positions."""
    audio = make_audio(34.0)
    config = lm.model.config
    stock = type(lm.model)._from_config(config, attn_implementation="eager").eval()
    stock.load_state_dict(lm.model.state_dict())
    inputs, _ = lm.mel_frames(lm.windows(audio))
    (weights,) = stock.model.audio_tower(inputs, output_attentions=True).attentions
    received = weights.mean(1).sum(1).unflatten(-1, (-1, 4)).mean(-1)
    expected = torch.cat([received[0], received[1, :50]])
    torch.testing.assert_close(lm.encode(audio).attention, expected, rtol=1e-5, atol=1e-6)
    assert expected.std() > 0.01, "attention that is the same everywhere would prove nothing"


def test_times_are_those_of_the_frames(lm):
    times = lm.encode(make_audio(71.3)).times
    assert times[[1, 375, 750], 0].tolist() == pytest.approx([0.08, 30, 60])


@pytest.mark.slow
def test_what_the_stock_processor_would_cut_is_heard_and_said(session):
    tokens = session.encode(make_audio(700))
    assert len(tokens) == 8750
    (told,) = session.doubts(tokens)
    assert "700 s" in told
    assert "was made for 655 s at most" in told


def test_torch_counts_the_same(lm):
    mask = torch.ones(2, 3000, dtype=torch.long)
    found = flops_of(lambda: lm.model.get_audio_features(torch.zeros(2, 80, 3000), mask))
    assert found == lm.shape.encoder.flops(60, lm.hidden_size)


def test_its_preset_is_counted_as_it_is_built():
    preset_is_the_model("glm-asr")
