"""Audio Flamingo 3 and Music Flamingo against the stock models and their processors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import stock_parity
import torch
from conftest import make_audio
from stock_parity import LENGTHS, QUESTION

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


def stock_inputs(lm, audio):
    """As the models' pages have it: the question, then the recording, which the template turns."""
    content = [{"type": "text", "text": QUESTION}, {"type": "audio", "audio": audio.samples}]
    return lm.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
    )


@pytest.mark.parametrize("seconds", LENGTHS)
def test_with_nothing_pruned_the_logits_are_the_stock_model_s(lm, seconds):
    audio = make_audio(seconds)
    if (lm.family, seconds) == ("music_flamingo", 30.01):
        with pytest.raises(IndexError):  # the stock model knows no window without a token
            lm.model(**stock_inputs(lm, audio))
        heard = replace(audio, samples=audio.samples[: 30 * SAMPLE_RATE])
    else:
        heard = audio
    stock_parity.same_logits(lm, audio, stock_inputs(lm, heard))


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
    audio = lm.model.config.audio_token_id
    whole = [*ids.before, *[audio] * count, *ids.after]
    assert whole == stock_inputs(lm, make_audio(seconds))["input_ids"][0].tolist()


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


def test_batches_are_as_singles(lm):
    stock_parity.same_side_by_side(lm)


def test_torch_counts_the_same(lm):
    """Of Music Flamingo without the turning, which is element-wise."""

    def encode(model):
        mask = torch.ones(2, 3000, dtype=torch.long)
        found = model.model.audio_tower(torch.zeros(2, 80, 3000), input_features_mask=mask)
        model.model.multi_modal_projector(found.last_hidden_state)

    stock_parity.same_flops(lm, encode)


def test_it_is_loaded_as_it_is_published(lm, tmp_path):
    stock_parity.same_as_published(lm, tmp_path / "published")


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_runs_in_sixteen_bits(request, folder):
    stock_parity.same_in_sixteen_bits(request.getfixturevalue(folder), stock_inputs)


def test_only_the_decoder_is_quantised(lm):
    stock_parity.only_the_decoder_is_quantised(lm)


@pytest.mark.parametrize("name", ["audio-flamingo-3", "music-flamingo", "audio-flamingo-next"])
def test_presets_are_counted_as_they_are_built(name):
    stock_parity.preset_is_the_model(name)
