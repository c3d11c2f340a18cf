"""Whisper base itself: what it gets right, what it must not make up, what no kill may change."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechprune_cli.audio import load_audio, write_audio
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import SAMPLE_RATE, Transcript
from speechprune_cli.transcripts.piece import joined
from speechprune_cli.transcripts.recogniser import Recogniser
from speechprune_cli.transcripts.store import transcribed
from speechprune_cli.transcripts.voice import WINDOW_SECONDS, Window, next_block, windows_of
from speechprune_cli.weights.stored import stored_folder

SPEECH = Path(__file__).parents[2] / "shared" / "speech"

pytest.importorskip("faster_whisper", reason="recognising is an extra")
spoken = pytest.mark.skipif(not SPEECH.is_dir(), reason="recordings of people are not here")


@pytest.fixture(scope="module")
def whisper_base(mini) -> Path:
    """The folder of Whisper base, as `models get` put it there."""
    return stored_folder("whisper-base")


@pytest.fixture(scope="module")
def recogniser(whisper_base) -> Recogniser:
    return Recogniser(whisper_base, "base")


def _librispeech(count: int) -> tuple[list[np.ndarray], str]:
    """The first recordings that have a transcript, and all that is said in them."""
    folder = SPEECH / "librispeech"
    with (folder / "index.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:count]
    sounds = [load_audio(folder / row["file"]).samples for row in rows]
    return sounds, " ".join(row["transcript"] for row in rows)


def _recognised(recogniser: Recogniser, samples: np.ndarray) -> Transcript:
    return joined(list(recogniser.transcribe(samples)), recogniser.origin)


@pytest.mark.slow
@spoken
def test_librispeech_is_right_and_english(recogniser):
    jiwer = pytest.importorskip("jiwer")
    normalise = pytest.importorskip("whisper_normalizer.english").EnglishTextNormalizer()
    sounds, said = _librispeech(20)
    found = _recognised(recogniser, np.concatenate(sounds))
    text = " ".join(sentence.text for sentence in found.sentences)
    assert jiwer.wer(normalise(said), normalise(text)) < 0.15
    assert found.language == "en"
    assert 0.5 < found.sure <= 1


@pytest.mark.slow
@spoken
def test_words_lie_where_somebody_speaks(recogniser):
    sounds, _ = _librispeech(6)
    pause = np.zeros(7 * SAMPLE_RATE, np.float32)
    samples, heard, at = [], [], 0
    for sound in sounds:
        heard.append((at / SAMPLE_RATE, (at + len(sound)) / SAMPLE_RATE))
        samples += [sound, pause]
        at += len(sound) + len(pause)
    words = list(_recognised(recogniser, np.concatenate(samples)).words)
    for word in words:
        assert any(s - 0.5 <= word.start <= word.end <= e + 0.5 for s, e in heard), word
    for start, end in heard:
        inside = [word for word in words if start - 0.5 <= word.start <= end]
        assert inside[0].start - start < 1.5
        assert end - inside[-1].end < 1.5
    assert all(a.start <= b.start and a.end <= b.end for a, b in pairwise(words))


@pytest.mark.slow
@spoken
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
def test_ten_minutes_after_a_kill_are_those_of_one_run(whisper_base, recogniser, tmp_path):
    sounds, _ = _librispeech(50)
    samples = np.concatenate(sounds)
    write_audio(tmp_path / "a.wav", np.resize(samples, 600 * SAMPLE_RATE), SAMPLE_RATE)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from speechprune_cli.audio import load_audio\n"
        "from speechprune_cli.transcripts.recogniser import Recogniser\n"
        "from speechprune_cli.transcripts.store import transcribed\n"
        "def killed(seconds):\n"
        "    if seconds > 300:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "recogniser = Recogniser(Path(sys.argv[1]), 'base')\n"
        "transcribed(load_audio(sys.argv[2]), recogniser, None, Path(sys.argv[3]), killed)\n"
    )
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", code, str(whisper_base), str(tmp_path / "a.wav"), str(kept)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    audio, told = load_audio(tmp_path / "a.wav"), []
    gone_on = transcribed(audio, recogniser, None, kept, told.append)
    assert 0 < told[0] <= 300
    assert gone_on == transcribed(audio, recogniser)
    assert transcribed(audio, recogniser, None, kept) == gone_on


def _no_speech() -> dict[str, np.ndarray]:
    """Half a minute of each."""
    time = np.arange(30 * SAMPLE_RATE) / SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.3, len(time))
    notes = 220 * 2 ** (np.random.default_rng(1).integers(0, 24, 60) / 12)
    pitch = np.repeat(notes, SAMPLE_RATE // 2)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    plucked = np.exp(-4 * (time % 0.5)) * sum(np.sin(n * phase) / n for n in range(1, 6))
    return {
        "silence": np.zeros(len(time)),
        "noise": noise,
        "hiss": noise / 1000,
        "bursts": noise * (np.sin(6 * np.pi * time) > 0.7),
        "tone": 0.3 * np.sin(880 * np.pi * time),
        "siren": 0.3 * np.sin(440 * np.pi * time) * (1 + np.sin(8 * np.pi * time)) / 2,
        "music": 0.2 * plucked,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sound"), _no_speech().items())
def test_what_nobody_says_is_not_written(recogniser, name, sound):
    found = _recognised(recogniser, sound.astype(np.float32))
    assert found.sentences == ()
    assert found.language is None
    assert all("no words that can be trusted" in note for note in found.notes)


@pytest.mark.slow
@spoken
def test_what_sounds_like_speech_does_not_settle_the_language(recogniser):
    sounds, _ = _librispeech(3)
    siren = _no_speech()["siren"].astype(np.float32)
    found = _recognised(recogniser, np.concatenate([np.resize(siren, 130 * SAMPLE_RATE), *sounds]))
    assert found.language == "en"
    assert found.sentences[0].start > 129
    assert any("no words that can be trusted" in note for note in found.notes)


def test_an_unknown_language_is_refused_before_anything_is_loaded(tmp_path):
    recogniser = Recogniser(_folder(tmp_path), "none")
    with pytest.raises(UsageError, match="no language 'xx'"):
        next(recogniser.transcribe(np.zeros(SAMPLE_RATE, np.float32), "xx"))


def _folder(folder: Path, **contents: str) -> Path:
    files = {"config.json": "{}", "tokenizer.json": "{}", "model.bin": "x" * 99}
    for name, text in {**files, **contents}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.bin"])
def test_a_folder_without_one_of_its_files(tmp_path, name):
    (_folder(tmp_path) / name).unlink()
    with pytest.raises(ModelError, match=rf"{tmp_path}.* no {name}"):
        Recogniser(tmp_path, "none")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_file_that_is_cut_off(tmp_path, name):
    folder = _folder(tmp_path, **{name: '{"model": '})
    with pytest.raises(ModelError, match=f"{folder / name}: damaged"):
        Recogniser(folder, "none")


def test_weights_that_are_none(tmp_path):
    recogniser = Recogniser(_folder(tmp_path), "none")
    with pytest.raises(ModelError, match=str(tmp_path)) as caught:
        recogniser.multilingual  # noqa: B018 - which loads the model
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_weights_that_are_cut_off(whisper_base, tmp_path):
    for path in whisper_base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:50_000_000])
    with pytest.raises(ModelError, match=f"{tmp_path}: Whisper cannot be run"):
        Recogniser(tmp_path, "none").multilingual  # noqa: B018


gaps_and_lengths = st.lists(
    st.tuples(st.integers(0, 20 * SAMPLE_RATE), st.integers(1, WINDOW_SECONDS * SAMPLE_RATE)),
    max_size=40,
)


@given(gaps_and_lengths)
def test_windows_hold_all_speech_in_order_and_none_is_too_long(pairs):
    spans, at = [], 0
    for gap, count in pairs:
        spans.append((at + gap, at + gap + count))
        at += gap + count
    windows = windows_of(spans)
    assert [span for window in windows for span in window.spans] == spans
    for window in windows:
        assert sum(end - start for start, end in window.spans) <= WINDOW_SECONDS * SAMPLE_RATE


@given(st.floats(0, 3), st.floats(0, 3))
def test_a_word_is_placed_where_its_sound_was(start, end):
    second = SAMPLE_RATE
    window = Window(
        ((5 * second, 6 * second), (10 * second, 11 * second), (20 * second, 21 * second))
    )
    word = window.placed("x", *sorted((start, end)))
    middle = (start + end) / 2
    place = (5, 10, 20)[min(2, int(middle))]
    assert place <= word.start <= word.end <= place + 1


@spoken
def test_blocks_follow_one_another_and_cut_no_speech():
    sounds, _ = _librispeech(50)
    samples = np.resize(np.concatenate(sounds), 600 * SAMPLE_RATE)
    at, windows = 0, []
    while at < len(samples):
        found, end = next_block(samples, at)
        assert all(at <= window.spans[0][0] < window.spans[-1][1] <= end for window in found)
        windows += found
        at = end
    assert at == len(samples)
    assert sum(len(window.cut(samples)) for window in windows) > 0.8 * len(samples)
