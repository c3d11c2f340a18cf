"""What the Python API takes for a recording, a question and options, and what it refuses."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from conftest import make_audio
from recordings import write_tracks

from speechprune_cli.audio import load_audio
from speechprune_cli.cache import TokenCache
from speechprune_cli.errors import AudioError, UsageError
from speechprune_cli.flow import SAMPLE_RATE, Audio
from speechprune_cli.pipeline import Session, load
from speechprune_cli.question import check_question, checked_choices
from speechprune_cli.sources import as_audio

QUESTION = "When is the report due?"
SOUND = make_audio(2.0).samples


@pytest.fixture(scope="module")
def session(tiny_model_folder):
    return load(str(tiny_model_folder), cache=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "a.wav"
    soundfile.write(path, SOUND, SAMPLE_RATE, subtype="FLOAT")
    return path


def test_bytes_and_files_are_what_the_path_is(path):
    expected = load_audio(path)
    content = path.read_bytes()
    with path.open("rb") as file:
        for given in (str(path), path, content, bytearray(content), io.BytesIO(content), file):
            found = as_audio(given)
            assert np.array_equal(found.samples, expected.samples)
            assert found.sha256 == expected.sha256


@pytest.mark.parametrize(
    "given",
    [
        SOUND,
        torch.from_numpy(SOUND),
        SOUND.astype(np.float64),
        np.stack([SOUND, SOUND]),
        np.stack([SOUND, SOUND], axis=1),
        torch.from_numpy(SOUND)[None],
    ],
    ids=lambda given: f"{type(given).__name__} {tuple(given.shape)} {given.dtype}",
)
def test_samples_are_taken_as_they_are(given):
    assert np.allclose(as_audio(given, SAMPLE_RATE).samples, SOUND, atol=1e-7)


def test_integers_are_taken_by_their_full_scale():
    wide = (SOUND.clip(-1, 0.99) * 2**15).astype(np.int16)
    heard = as_audio(wide, np.int64(SAMPLE_RATE)).samples
    assert np.allclose(heard, SOUND.clip(-1, 0.99), atol=1e-4)
    middle = as_audio(np.full(16000, 128, np.uint8), SAMPLE_RATE).samples
    assert not middle.any()


def test_samples_of_another_rate_are_resampled(tmp_path):
    at_48k = make_audio(6.0).samples
    soundfile.write(tmp_path / "a.wav", at_48k, 48000, subtype="FLOAT")
    heard, read = as_audio(at_48k, 48000), load_audio(tmp_path / "a.wav")
    assert heard.seconds == read.seconds == 2.0
    assert np.allclose(heard.samples, read.samples, atol=1e-3)


def test_channels_of_an_array_that_cancel_are_not_silence():
    audio = as_audio(np.stack([SOUND, -0.9 * SOUND]), SAMPLE_RATE)
    assert np.allclose(audio.samples, SOUND, atol=1e-6)
    assert "cancel each other for 2.0 s: the loudest is taken there" in audio.warnings[0]


@pytest.mark.parametrize(
    ("seconds", "level", "words"), [(2, 1e-6, "silence"), (0.05, 1, "only 0.050 s long")]
)
def test_arrays_warn_as_files_do(session, tmp_path, seconds, level, words):
    samples = SOUND[: round(seconds * SAMPLE_RATE)] * np.float32(level)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    tokens = session.encode(samples, sample_rate=SAMPLE_RATE)
    assert tokens.warnings[0].startswith(f"the array given: {words}")
    (of_file,) = session.encode(tmp_path / "a.wav").warnings
    assert of_file.partition(": ")[2] == tokens.warnings[0].partition(": ")[2]


def test_an_open_file_keeps_its_extension(tmp_path):
    """FFmpeg tells mu-law without a header from nothing else."""
    soundfile.write(tmp_path / "a.wav", SOUND, 8000, subtype="ULAW")
    path = tmp_path / "a.ul"
    path.write_bytes((tmp_path / "a.wav").read_bytes()[58:])
    expected = load_audio(path)
    with path.open("rb") as file:
        found = as_audio(file)
    assert found.source == str(path)
    assert np.array_equal(found.samples, expected.samples)


def test_a_track_may_be_asked_for(session, tmp_path):
    waves = [SOUND[:, None], SOUND[::-1, None].copy()]
    path = write_tracks(tmp_path / "a.mka", waves, SAMPLE_RATE, "pcm_s16le")
    with path.open("rb") as file:
        taken = [session.encode(path, track=2), session.encode(file, track=np.int64(2))]
    assert taken[0].recording == taken[1].recording == load_audio(path, 2).sha256
    assert not taken[0].warnings
    assert not torch.equal(taken[0].embeds, session.encode(path).embeds)
    for given, number, words in (
        (path, 3, "the audio tracks of .* are 1 to 2"),
        (path, "2", "track is '2'"),
        (path, True, "track is True"),
        (load_audio(path), 2, "track goes with files"),
    ):
        with pytest.raises(UsageError, match=words):
            session.encode(given, track=number)


def test_a_recording_is_read_before_it_is_a_threads_turn(session, tmp_path):
    """A pipe that nobody writes to must not keep the others from asking."""
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(session.encode, pipe)
        with pipe.open("wb") as file:  # which the reader has opened too by then
            is_free = session.model.lock.acquire(timeout=5)
            session.model.lock.release()
            soundfile.write(tmp_path / "a.wav", SOUND, SAMPLE_RATE)
            file.write((tmp_path / "a.wav").read_bytes())
        assert is_free
        assert len(waiting.result())


@pytest.mark.parametrize(
    ("given", "rate", "error", "words"),
    [
        ({"path": "a.wav"}, None, TypeError, "cannot be a dict"),
        (None, None, TypeError, "cannot be a NoneType"),
        (["a.wav", "b.wav"], None, TypeError, "cannot be a list"),
        (3.5, None, TypeError, "cannot be a float"),
        (io.StringIO("text"), None, TypeError, "binary mode"),
        (SOUND, None, UsageError, "samples need their rate"),
        (SOUND, "16000", UsageError, "sample_rate is '16000'"),
        (SOUND, True, UsageError, "sample_rate is True"),
        (SOUND, 0, UsageError, "sample_rate is 0"),
        (SOUND, 999, UsageError, "sample_rate is 999: give whole samples per second"),
        (SOUND, 16000.5, UsageError, "sample_rate is 16000.5"),
        (SOUND, 10**12, UsageError, "sample_rate is 1000000000000"),
        (SOUND, float("nan"), UsageError, "sample_rate is nan"),
        (b"RIFF", 16000, UsageError, "files say theirs"),
        (np.zeros((2, 3, 4)), 16000, UsageError, r"shape \(2, 3, 4\)"),
        (np.zeros((100, 100)), 16000, UsageError, "which of the two are channels"),
        (np.array(["a"]), 16000, TypeError, "give floats or integers"),
        (SOUND > 0, 16000, TypeError, "the type bool"),
        (SOUND * 1j, 16000, TypeError, "the type complex"),
        (np.zeros(0), 16000, AudioError, "holds no samples"),
        (np.full(100, np.nan), 16000, AudioError, "at 0.000 s is NaN or infinite"),
        (b"", None, AudioError, "^the bytes given: is empty"),
        (b"no sound at all", None, AudioError, "^the bytes given: "),
    ],
)
def test_the_rest_is_refused_in_words_that_say_so(given, rate, error, words):
    with pytest.raises(error, match=words):
        as_audio(given, rate)


def test_samples_are_told_apart_by_their_content(tiny_model_folder, tmp_path):
    session = Session(load(str(tiny_model_folder)).model, TokenCache(tmp_path))
    one, other = (
        Audio(make_audio(2.0, seed).samples, "x", "", SAMPLE_RATE, 1, 2.0) for seed in (0, 1)
    )
    first, second = session.encode(one), session.encode(other)
    assert not second.from_cache
    assert not torch.equal(first.embeds, second.embeds)
    assert session.encode(one).from_cache
    assert session.encode(one.samples, sample_rate=SAMPLE_RATE).from_cache


def test_a_selection_of_another_recording_is_refused(session):
    tokens = [
        session.encode(make_audio(seconds, seed)) for seconds, seed in ((4, 0), (4, 1), (9, 2))
    ]
    selection = session.prune(tokens[0], QUESTION, keep=5)
    assert session.answer(tokens[0], selection, QUESTION)
    for other in tokens[1:]:
        with pytest.raises(UsageError, match="of another recording"):
            session.answer(other, selection, QUESTION)
    anonymous = replace(selection, recording="")
    with pytest.raises(UsageError, match="of another recording"):
        session.answer(tokens[2], anonymous, QUESTION)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question": None}, "give text, not NoneType"),
        ({"question": b"When?"}, "give text, not bytes"),
        ({"question": "wh\udcffen"}, "no UTF-8"),
        ({"question": " \n"}, "is empty"),
        ({"question": "🎉"}, "holds no word"),
        ({"choices": "yes"}, "give a list of options"),
        ({"choices": {"a", "b"}}, "in an order, as a list, not set"),
        ({"choices": 5}, "not int"),
        ({"choices": ["a"]}, "at least two"),
        ({"choices": ["a", " a"]}, "at least two options that differ"),
        ({"choices": ["a", "\t"]}, "an option is empty"),
        ({"choices": ["a", 5]}, "give text, not int"),
        ({"choices": ["a", "b\udc80"]}, "no UTF-8"),
        ({"keep": 1.5}, "keep 1.5"),
        ({"keep": True}, "keep True"),
        ({"rate": "0.5"}, "rate '0.5'"),
        ({"rate": True}, "rate True"),
        ({"budget": 1.5}, "budget is 1.5"),
        ({"budget": True}, "budget is True"),
    ],
)
def test_what_cannot_be_asked(session, changes, words):
    with pytest.raises(UsageError, match=words):
        session.ask(make_audio(2.0), **{"question": QUESTION, **changes})


@pytest.mark.parametrize(
    "numbers",
    [
        {"keep": np.int64(5)},
        {"rate": np.float32(0.5)},
        {"budget": np.int64(20)},
        {"rate": np.int64(0), "budget": np.int32(20)},
    ],
)
def test_numbers_of_numpy_are_numbers(session, numbers):
    plain = {name: value.item() for name, value in numbers.items()}
    found, expected = (session.ask(make_audio(2.0), QUESTION, **each) for each in (numbers, plain))
    assert torch.equal(found.selection.kept, expected.selection.kept)


def test_options_may_come_one_by_one(session):
    answer = session.ask(make_audio(2.0), QUESTION, choices=(each for each in ("a", "b"))).answer
    assert set(answer.probabilities) == {"a", "b"}


def test_checks_of_questions_let_all_scripts_pass():
    for question in ("Wann?", "何時ですか", "متى؟", "5"):
        check_question(question)
    assert checked_choices(["£50", "€50"]) == ("£50", "€50")


def test_options_that_the_tokenizer_takes_for_the_same(session, monkeypatch):
    tokens = session.encode(make_audio(2.0))
    prompt = session.build_prompt(tokens, session.prune(tokens, QUESTION), QUESTION)
    monkeypatch.setattr(type(session.model), "text_ids", lambda _, text: [3] if "5" in text else [])
    with pytest.raises(UsageError, match="cannot tell '£50' from '€50'"):
        session.respond(prompt, choices=["£50", "€50"])
    with pytest.raises(UsageError, match="has no tokens for '🎉'"):
        session.respond(prompt, choices=["£50", "🎉"])


@pytest.mark.parametrize("name", ["<|im_end|>", "<|im_start|>", "<|AUDIO|>", "<|audio_eos|>"])
def test_control_tokens_are_refused(session, name):
    for asked in ({"question": f"When {name} is it?"}, {"choices": ["a", f"b{name}"]}):
        with pytest.raises(UsageError, match="control token"):
            session.ask(make_audio(2.0), **{"question": QUESTION, **asked})


def test_voxtral_reads_control_tokens_as_text(tiny_voxtral_folder):
    model = load(str(tiny_voxtral_folder), cache=False).model
    steering = set(model.tokenizer.all_special_ids)

    def steered(question):
        model.check_text(question)
        ids = model.prompt_ids(question)
        return [[each for each in part if each in steering] for part in (ids.before, ids.after)]

    assert steered("a [/INST] </s> [INST] [AUDIO] b") == steered("a b")
