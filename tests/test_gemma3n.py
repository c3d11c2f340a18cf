"""Gemma 3n against the stock model: same tokens, same logits, words looked up in every layer."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from conftest import make_audio
from parity import QUESTION, Parity, decoder_is_counted, flops_of
from tiny_families import TINY

from speechprune_cli import load
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE


@pytest.fixture(scope="module")
def lm(tiny_gemma3n_folder):
    return load(str(tiny_gemma3n_folder), device="cpu", cache=False).model


@pytest.mark.slow
class TestParity(Parity):
    tiny = TINY["gemma3n"]
    answered = (0.4, 3.0, 30.01)


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
    ids, audio = lm.prompt_ids(QUESTION), lm.model.config.audio_token_id
    framed = ids.text.replace("<audio>", "\n\n<|audio_bos|><audio><audio end>\n\n")
    told = lm.tokenizer(framed.replace("<audio>", "<audio>" * 188), add_special_tokens=False)
    assert told.input_ids == [*ids.before, *[audio] * 188, *ids.after]


def test_markers_come_from_tables_of_their_own(lm):
    audio = lm.model.model.embed_audio
    ids = torch.tensor([3, audio.vocab_offset + 1])
    rows = lm.embed_rows(ids)
    assert torch.equal(rows[0], lm.model.get_input_embeddings()(ids)[0])
    torch.testing.assert_close(rows[1], audio(input_ids=ids[1:])[0])


@pytest.mark.parametrize("seconds", [0.4, 2.9, 30.0])
def test_torch_counts_the_same_encoder(lm, seconds):
    found = flops_of(lambda: lm.encode_windows(lm.windows(make_audio(seconds))))
    assert found == lm.shape.encoder.flops(seconds, lm.hidden_size)


def test_what_is_within_a_window_is_counted_too(lm):
    decoder_is_counted(lm, 20)


def test_a_question_with_the_audio_marker_is_refused(lm):
    with pytest.raises(UsageError, match="must not contain"):
        lm.prompt_ids("What does <audio> mean?")


def test_names_are_the_published_ones(lm):
    """The native class's own names: transformers lists no conversion for `gemma3n`."""
    names = TINY["gemma3n"].published(lm)
    assert "model.language_model.layers.0.altup.modality_router.weight" in names
    assert "model.audio_tower.conformer.0.attention.attn.q_proj.weight" in names


@pytest.mark.slow
@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_it_is_said_in_a_line(tiny_gemma3n_folder):
    """In a process of its own, where nothing stands in for its eyes."""
    command = [sys.executable, "-m", "speechprune_cli", "profile", str(tiny_gemma3n_folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert "timm" in line
