"""Gemma 3n against the stock model: same tokens, same logits, words looked up in every layer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec

import parity
import pytest
import torch
from conftest import make_audio
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import load
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE

SLOW = {30.0, 71.3, 200.0}
LENGTHS = [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in parity.LENGTHS]


@pytest.fixture(scope="module")
def lm(tiny_gemma3n_folder):
    return load(str(tiny_gemma3n_folder), device="cpu", cache=False).model


@pytest.fixture(scope="module")
def stock(tiny_gemma3n_folder):
    from transformers import Gemma3nForConditionalGeneration

    return Gemma3nForConditionalGeneration.from_pretrained(tiny_gemma3n_folder).eval()


def inputs_of(lm, seconds):
    """As many windows of 30 s as there are, between one pair of markers."""
    samples, each = make_audio(seconds).samples, 30 * SAMPLE_RATE
    windows = [samples[at : at + each] for at in range(0, len(samples) - 512, each)]
    features = lm.extractor(windows, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    ids = parity.expected_ids(lm, seconds, lm.model.config.audio_token_id)
    return {"input_ids": ids, **features}


@torch.inference_mode()
@pytest.mark.parametrize("seconds", LENGTHS)
def test_with_nothing_pruned_the_logits_are_the_stock_model_s(lm, stock, seconds):
    expected = stock(**inputs_of(lm, seconds)).logits
    prompt = parity.prompt_of(lm, seconds)
    ids = lm.word_ids(prompt.inputs_embeds)
    ours = lm.model(
        inputs_embeds=prompt.inputs_embeds,
        position_ids=prompt.position_ids,
        per_layer_inputs=lm.decoder.get_per_layer_inputs(ids),
    ).logits
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() == 0.0
    torch.testing.assert_close(lm.prefill(prompt)[1], expected[0, -1], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [3.0, 30.01])
def test_generate_gives_the_stock_model_s_tokens(lm, stock, seconds):
    inputs = inputs_of(lm, seconds)
    told = stock.generate(**inputs, do_sample=False, max_new_tokens=20)
    parity.same_answer(lm, seconds, told[0, inputs["input_ids"].shape[1] :].tolist(), 20)


@torch.inference_mode()
@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_pruned_prompt_is_read_as_the_stock_decoder_reads_it(lm, stock, position):
    """By the stock forward on what is left of the embeddings, and of each layer's own."""
    from transformers import DynamicCache

    seen = {}
    hook = stock.model.language_model.register_forward_pre_hook(
        lambda module, _, named: seen.update(named), with_kwargs=True
    )
    stock(**inputs_of(lm, 3.0))
    hook.remove()
    places = parity.kept_places(lm, 3.0, step=3)
    positions = places if position == "original" else torch.arange(len(places))
    hidden = stock.model.language_model(
        inputs_embeds=seen["inputs_embeds"][:, places],
        per_layer_inputs=seen["per_layer_inputs"][:, places],
        position_ids=positions[None],
        cache=DynamicCache(config=stock.model.language_model.config),
    ).last_hidden_state
    logits = (stock.lm_head(hidden[0, -1]) / 30.0).tanh() * 30.0
    prompt = parity.prompt_of(lm, 3.0, step=3, position=position)
    assert torch.equal(prompt.position_ids, positions[None])
    assert (lm.prefill(prompt)[1] - logits).abs().max() == 0.0


@pytest.mark.parametrize(
    ("seconds", "tokens"), [(0.4, 188), (29.99, 188), (30.0, 188), (30.01, 188), (71.3, 564)]
)
def test_counted_by_the_processor_s_own_rules(lm, seconds, tokens):
    """188 placeholders for each window, as `Gemma3nProcessor.audio_seq_length` says."""
    assert lm.shape.encoder.tokens(round(seconds * SAMPLE_RATE)) == tokens


def test_what_fills_a_window_up_has_no_length(lm):
    tokens = lm.encode(make_audio(31.0))
    start, end = tokens.times.T
    assert len(tokens) == 376
    assert end[187] == start[188] == 30.0
    assert int((end > start).sum()) == 188 + 7
    assert (tokens.embeds[-1] == tokens.embeds[-2]).all()


def test_the_prompt_is_the_processor_s(lm):
    """Its `full_audio_sequence`, tokenised with what stands around it."""
    text = lm.prompt_ids(parity.QUESTION).text
    framed = text.replace("<audio>", "\n\n<|audio_bos|><audio><audio end>\n\n")
    expected = parity.expected_ids(lm, 3.0, lm.model.config.audio_token_id)[0].tolist()
    told = framed.replace("<audio>", "<audio>" * 188)
    assert lm.tokenizer(told, add_special_tokens=False).input_ids == expected


def test_markers_come_from_tables_of_their_own(lm):
    audio = lm.model.model.embed_audio
    ids = torch.tensor([3, audio.vocab_offset + 1])
    rows = lm.embed_rows(ids)
    assert torch.equal(rows[0], lm.model.get_input_embeddings()(ids)[0])
    torch.testing.assert_close(rows[1], audio(input_ids=ids[1:])[0])


@pytest.mark.parametrize("seconds", [0.4, 2.9, 30.0])
def test_torch_counts_the_same_encoder(lm, seconds):
    audio = make_audio(seconds)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        lm.encode_windows(lm.windows(audio))
    assert counter.get_total_flops() == lm.shape.encoder.flops(seconds, lm.hidden_size)


@pytest.mark.parametrize("length", [20, 100])
def test_torch_counts_the_same_decoder(lm, length):
    parity.assert_decoder_is_counted(lm, length)


def test_random_weights_are_counted_alike(lm):
    from speechprune_cli.device import place

    parity.assert_decoder_is_counted(type(lm).random(lm.preset, lm.shape, place("cpu")))


def test_a_question_with_the_audio_marker_is_refused(lm):
    with pytest.raises(UsageError, match="must not contain"):
        lm.prompt_ids("What does <audio> mean?")


def test_what_stays_unquantised_is_there(lm):
    for name in lm.unquantised:
        assert lm.model.get_submodule(name)


@torch.inference_mode()
def test_shards_with_the_published_names_are_loaded(tiny_gemma3n_folder, tmp_path, lm):
    """The native class's own names: transformers lists no conversion for `gemma3n`."""
    folder = shutil.copytree(tiny_gemma3n_folder, tmp_path / "published")
    names = parity.shard(folder)
    assert "model.language_model.layers.0.altup.modality_router.weight" in names
    assert "model.audio_tower.conformer.0.attention.attn.q_proj.weight" in names
    found = load(str(folder), device="cpu", cache=False).model
    prompt = parity.prompt_of(lm, 3.0)
    assert torch.equal(found.prefill(prompt)[1], lm.prefill(prompt)[1])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_it_is_said_in_a_line(tiny_gemma3n_folder):
    """In a process of its own, where nothing stands in for its eyes."""
    command = [sys.executable, "-m", "speechprune_cli", "profile", str(tiny_gemma3n_folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert "timm" in line
