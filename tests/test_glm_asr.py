"""GLM-ASR against the stock model and its processor."""

from __future__ import annotations

import pytest
import stock_parity
import torch
from conftest import make_audio
from stock_parity import LENGTHS, QUESTION

from speechprune_cli import load


@pytest.fixture(scope="module")
def session(tiny_glm_asr_folder):
    return load(str(tiny_glm_asr_folder), device="cpu", cache=False)


@pytest.fixture(scope="module")
def lm(session):
    return session.model


def stock_inputs(lm, audio):
    """As the processor's `apply_transcription_request` writes it, with a question."""
    return lm.processor.apply_transcription_request(audio.samples, prompt=QUESTION)


@pytest.mark.parametrize("seconds", LENGTHS)
def test_with_nothing_pruned_the_logits_are_the_stock_model_s(lm, seconds):
    audio = make_audio(seconds)
    stock_parity.same_logits(lm, audio, stock_inputs(lm, audio))


@pytest.mark.parametrize("seconds", [3.0, 71.3])
def test_generate_gives_the_stock_model_s_tokens(lm, seconds):
    audio = make_audio(seconds)
    stock_parity.same_answer(lm, audio, stock_inputs(lm, audio))


@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_pruned_prompt_is_read_as_the_stock_decoder_reads_it(lm, position):
    audio = make_audio(34.0)
    stock_parity.same_pruned(lm, audio, stock_inputs(lm, audio), position)


@pytest.mark.parametrize("seconds", [0.4, 34.0])
def test_counts_and_prompt_are_the_processor_s(lm, seconds):
    ids, count = lm.prompt_ids(QUESTION), lm.shape.audio_tokens(seconds)
    whole = [*ids.before, *[lm.model.config.audio_token_id] * count, *ids.after]
    assert whole == stock_inputs(lm, make_audio(seconds))["input_ids"][0].tolist()


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


def test_batches_are_as_singles(lm):
    stock_parity.same_side_by_side(lm)


def test_torch_counts_the_same(lm):
    mask = torch.ones(2, 3000, dtype=torch.long)
    stock_parity.same_flops(
        lm, lambda model: model.get_audio_features(torch.zeros(2, 80, 3000), mask)
    )


def test_it_is_loaded_as_it_is_published(lm, tmp_path):
    """With a head of its own beside the words, as transformers' converter writes it."""
    stock_parity.same_as_published(lm, tmp_path / "published")


def test_only_the_decoder_is_quantised(lm):
    stock_parity.only_the_decoder_is_quantised(lm)


def test_it_runs_in_sixteen_bits(tiny_glm_asr_folder):
    stock_parity.same_in_sixteen_bits(tiny_glm_asr_folder, stock_inputs)


def test_its_preset_is_counted_as_it_is_built():
    stock_parity.preset_is_the_model("glm-asr")
