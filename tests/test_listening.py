"""What is told of audio tokens beside their embeddings: loudness, the encoder's attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_audio
from transformers import Qwen2AudioForConditionalGeneration

from speechprune_cli import load
from speechprune_cli.backends.listening import QUIETEST, loudness
from speechprune_cli.flow import SAMPLE_RATE


def test_loudness_is_in_decibels_of_full_scale() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    samples = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    samples[SAMPLE_RATE // 2 :] = 0
    times = torch.tensor([[0.0, 0.04], [0.24, 0.28], [0.6, 0.64], [0.96, 0.98]])
    level = loudness(samples, times, SAMPLE_RATE)
    assert level.tolist() == pytest.approx([-3.01, -3.01, QUIETEST, QUIETEST], abs=0.01)


@pytest.mark.parametrize("seconds", [3.0, 30.0, 41.3])
def test_attention_is_that_of_the_eager_encoder(tiny_model_folder, seconds: float) -> None:
    """Columns of the attention matrices that transformers itself gives, masked by hand."""
    session = load(str(tiny_model_folder), device="cpu", dtype="float32", cache=False)
    audio = make_audio(seconds)
    found = session.encode(audio).attention
    eager = Qwen2AudioForConditionalGeneration.from_pretrained(
        tiny_model_folder, attn_implementation="eager"
    ).eval()
    expected = []
    for start in range(0, len(audio.samples), 30 * SAMPLE_RATE):
        window = audio.samples[start : start + 30 * SAMPLE_RATE]
        features = session.model.processor.feature_extractor(
            window, sampling_rate=SAMPLE_RATE, return_attention_mask=True, padding="max_length",
            return_tensors="pt",
        )  # fmt: skip
        tower = eager.model.audio_tower
        frames = features["attention_mask"].sum(-1)
        positions, tokens = (int(each) for each in tower._get_feat_extract_output_lengths(frames))
        mask = torch.full((1, 1, 1500, 1500), -torch.inf)
        mask[..., :positions] = 0
        with torch.no_grad():
            output = tower(features["input_features"], attention_mask=mask, output_attentions=True)
        received = output.attentions[-1][0, :, :positions].mean(0).sum(0)
        expected.append(received.unflatten(0, (750, 2)).mean(1)[:tokens])
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert found.mean().item() == pytest.approx(1, abs=0.05)


def test_loudness_of_hours_is_summed_in_blocks(monkeypatch):
    samples = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
    edges = torch.tensor([0, 0, 400, 999, 1000, 1001, 3000, 4999, 5000, 9000]) / 1000
    times = torch.stack([edges[:-1], edges[1:]], 1)
    whole = loudness(samples, times, 1000)
    monkeypatch.setattr("speechprune_cli.backends.listening.BLOCK", 500)
    torch.testing.assert_close(loudness(samples, times, 1000), whole)
    assert loudness(samples, torch.zeros(0, 2), 1000).shape == (0,)
