"""Table I of the paper from the shape of Qwen2-Audio-7B alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from speechprune_cli import costs

TEXT = SimpleNamespace(
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    intermediate_size=11008,
    vocab_size=156032,
)
AUDIO = SimpleNamespace(
    d_model=1280,
    encoder_ffn_dim=5120,
    encoder_layers=32,
    num_mel_bins=128,
    max_source_positions=1500,
)


def test_linear_parameters():
    assert costs.linear_parameters(TEXT) == 7_115_112_448


@pytest.mark.parametrize(
    ("n", "paper", "linear", "with_attention"),
    [
        (857, 12.2, 12.1953, 12.5804),
        (707, 10.06, 10.0608, 10.3228),
        (557, 7.93, 7.9262, 8.0889),
        (407, 5.79, 5.7917, 5.8785),
        (257, 3.66, 3.6572, 3.6918),
    ],
)
def test_prefill_is_the_paper_s_column(n, paper, linear, with_attention):
    tflops = costs.prefill_tflops(TEXT, n)
    assert tflops == pytest.approx(linear, abs=5e-5)
    assert tflops == pytest.approx(paper, abs=6e-3)
    total = tflops + costs.prefill_attention_tflops(TEXT, n)
    assert total == pytest.approx(with_attention, abs=1e-4)


def test_what_the_paper_leaves_out():
    assert costs.encoder_tflops(AUDIO, TEXT, 1) == pytest.approx(2.28, abs=5e-3)
    assert costs.encoder_tflops(AUDIO, TEXT, 3) == pytest.approx(6.84, abs=1e-2)
    prefill = costs.prefill_tflops(TEXT, 857)
    assert costs.phase2_tflops(TEXT, 750) / prefill == pytest.approx(0.0045, abs=5e-5)
    assert costs.phase2_tflops(TEXT, 2250) / prefill == pytest.approx(0.016, abs=5e-4)


def test_kv_cache_of_the_7b_model_in_16_bits():
    assert costs.kv_cache_bytes(TEXT, 857, 2) / 1e9 == pytest.approx(0.45, abs=5e-3)
    assert costs.kv_cache_bytes(TEXT, 2357, 2) / 1e9 == pytest.approx(1.24, abs=5e-3)
    assert costs.prefill_bytes(TEXT, 857, 2) > costs.kv_cache_bytes(TEXT, 857, 2)


def test_grouped_queries_and_an_explicit_head_width_count_as_they_are():
    grouped = SimpleNamespace(**{**vars(TEXT), "num_key_value_heads": 8})
    saved = costs.linear_parameters(TEXT) - costs.linear_parameters(grouped)
    assert saved == 32 * 2 * 4096 * (4096 - 1024)
    assert costs.linear_parameters(SimpleNamespace(**vars(TEXT), head_dim=128)) == 7_115_112_448
