"""Recordings of every kind, rate and shape decode to the sample, and are written back."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import encode, encode_integers, expected, similarity, voice, wav_bytes

from speechprune_cli.audio import load_audio, write_audio

RATES = (8000, 11025, 16000, 22050, 44100, 48000, 96000)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "aiff"])
def test_any_rate_to_the_sample(tmp_path: Path, extension: str, rate: int) -> None:
    wave = voice(1.2345, rate, channels=2)
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, wave, rate)
    audio = load_audio(path)
    assert (audio.source_rate, audio.channels) == (rate, 2)
    assert audio.source_seconds == len(wave) / rate
    assert audio.samples.dtype == np.float32
    assert len(audio.samples) == round(len(wave) * 16000 / rate)
    assert audio.warnings == ()
    if extension == "ogg":
        assert similarity(audio.samples, expected(wave, rate)) > 0.99
    else:
        np.testing.assert_allclose(audio.samples, expected(wave, rate), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "rate"), [("a.opus", 16000), ("b.opus", 48000), ("a.mp3", 16000), ("b.mp3", 44100)]
)
def test_opus_and_mp3(tmp_path: Path, name: str, rate: int) -> None:
    wave = voice(2.345, rate)
    write_audio(tmp_path / name, wave, rate)
    audio = load_audio(tmp_path / name)
    assert audio.source_seconds == len(wave) / rate
    assert similarity(audio.samples, expected(wave, rate)) > 0.99
    assert audio.warnings == ()


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels"),
    [
        ("a.m4a", "aac", 8000, 1),
        ("a.m4a", "aac", 44100, 2),
        ("a.mp4", "aac", 48000, 1),
        ("a.m4a", "alac", 44100, 2),
        ("a.webm", "libopus", 48000, 2),
        ("a.mka", "flac", 44100, 1),
    ],
)
def test_containers_to_the_sample(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int
) -> None:
    wave = voice(2.345, rate, channels)
    if codec in {"alac", "flac"}:  # encoders of integers
        path = encode_integers(tmp_path / name, wave, rate, codec)
    else:
        path = encode(tmp_path / name, wave, rate, codec)
    audio = load_audio(path)
    assert audio.source_seconds == len(wave) / rate
    assert audio.channels == channels
    assert similarity(audio.samples, expected(wave, rate)) > 0.98
    assert audio.warnings == ()


@pytest.mark.parametrize("extension", ["ogg", "opus"])
def test_ogg_streams_one_after_another_are_one_recording(tmp_path: Path, extension: str) -> None:
    """What joined files and radio streams look like; libsndfile stops after the first."""
    path = tmp_path / f"a.{extension}"
    data = b""
    for seconds in (2, 3):
        write_audio(path, voice(seconds, 16000), 16000)
        data += path.read_bytes()
    path.write_bytes(data)
    audio = load_audio(path)
    assert audio.source_seconds == pytest.approx(5, abs=0.05)
    assert audio.warnings == ()


def test_tags_in_another_alphabet(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    write_audio(path, voice(1, 16000), 16000)
    tag = b"TAG" + "Café".encode("latin-1").ljust(124, b"\0") + b"\xff"
    path.write_bytes(path.read_bytes() + tag)
    assert load_audio(path).source_seconds == pytest.approx(1, abs=0.05)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.wav"
    soundfile.write(path, voice(1, 16000), 16000)
    assert load_audio(os.fsdecode(path)).source_seconds == 1


def test_mp3_without_a_length_header_is_not_cut(tmp_path: Path) -> None:
    """soundfile reads half of such a file: its length is a guess from the first frame."""
    path = tmp_path / "a.mp3"
    wave = voice(4, 16000)
    soundfile.write(path, wave, 16000)
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 4) :])
    audio = load_audio(path)
    assert 4 <= audio.source_seconds < 4.2
    assert audio.warnings == ()


def test_unfinished_headers_are_read_to_the_end(tmp_path: Path) -> None:
    wave = voice(2, 16000)
    (tmp_path / "zero.wav").write_bytes(wav_bytes(bytes(1000) + b"\1\2" * 31500, stated=0))
    soundfile.write(tmp_path / "a.flac", wave, 16000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0  # STREAMINFO: the 36 bits of the number of samples
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    for name in ("zero.wav", "a.flac"):
        audio = load_audio(tmp_path / name)
        assert len(audio.samples) == 32000
        assert audio.warnings == ()


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 11])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (5000, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    audio = load_audio(tmp_path / "a.wav")
    assert audio.channels == channels
    np.testing.assert_allclose(audio.samples, wave.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("frames", [1601, 16384, 16385, 100_003])
def test_blocks_leave_no_seams(tmp_path: Path, frames: int) -> None:
    wave = voice(3, 44100)[:frames]
    soundfile.write(tmp_path / "a.wav", wave, 44100, subtype="FLOAT")
    np.testing.assert_allclose(
        load_audio(tmp_path / "a.wav").samples, expected(wave, 44100), atol=1e-6
    )


def test_hash_and_durations(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(1.5, 22050), 22050)
    audio = load_audio(str(path))
    assert audio.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert audio.source == str(path)
    assert audio.source_seconds == pytest.approx(1.5)
    assert audio.seconds == pytest.approx(1.5, abs=1 / 16000)


def test_the_extension_does_not_matter(tmp_path: Path) -> None:
    wave = voice(1, 16000)
    write_audio(tmp_path / "a.mp3", wave, 16000)
    write_audio(tmp_path / "b.wav", wave, 16000)
    (tmp_path / "a.mp3").rename(tmp_path / "a.wav")
    (tmp_path / "b.wav").rename(tmp_path / "b.raw")
    assert len(load_audio(tmp_path / "a.wav").samples) == 16000
    assert len(load_audio(tmp_path / "b.raw").samples) == 16000


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0xFFFFFFFF - 36, 0x80000000, 0x7FFFF000])
def test_wav_written_into_a_pipe(tmp_path: Path, stated: int) -> None:
    sound = (voice(1, 16000) * 32767).astype("<i2").tobytes()
    (tmp_path / "a.wav").write_bytes(wav_bytes(sound, stated=stated))
    audio = load_audio(tmp_path / "a.wav")
    assert len(audio.samples) == 16000
    assert audio.warnings == ()


SHOW_LENGTH = """
from speechprune_cli.audio import load_audio
audio = load_audio({source!r})
print(len(audio.samples), audio.source_rate, *audio.warnings)
"""


def in_a_process(source: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    code = SHOW_LENGTH.format(source=source)
    return subprocess.run([sys.executable, "-c", code], input=given, capture_output=True)


def test_standard_input(tmp_path: Path) -> None:
    sound = (voice(1, 16000) * 32767).astype("<i2").tobytes()
    done = in_a_process("-", wav_bytes(sound, stated=0xFFFFFFFF))
    assert (done.stdout, done.stderr) == (b"16000 16000\n", b"")
    m4a = encode(tmp_path / "a.m4a", voice(1, 44100), 44100, "aac").read_bytes()
    done = in_a_process("-", m4a)
    assert (done.stdout, done.stderr) == (b"16000 44100\n", b"")
    done = in_a_process("-")
    assert done.stderr.endswith(b"AudioError: standard input: is empty (0 bytes)\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_named_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sound = wav_bytes((voice(1, 16000) * 32767).astype("<i2").tobytes())
    writer = threading.Thread(target=pipe.write_bytes, args=(sound,))
    writer.start()
    audio = load_audio(pipe)
    writer.join()
    assert len(audio.samples) == 16000


PEAK_MEMORY = """
import resource
import soundfile, soxr, numpy
from speechprune_cli.audio import load_audio
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
audio = load_audio({source!r})
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(audio.samples.nbytes, (after - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_memory_is_that_of_the_samples(tmp_path: Path) -> None:
    """10 minutes of six channels: 115 MB of file, 38 MB of samples."""
    frames = 10 * 60 * 16000
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(b"", channels=6, stated=frames * 12))
    os.truncate(path, 44 + frames * 12)  # a sparse file
    code = PEAK_MEMORY.format(source=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    samples, grown = map(int, done.stdout.split())
    assert samples == frames * 4
    assert grown < 1.3 * samples + 20e6


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3"])
def test_written_is_read_back(tmp_path: Path, extension: str) -> None:
    """libsndfile crashes on three minutes of Vorbis at once."""
    wave = voice(180 if extension == "ogg" else 3, 16000)[:, 0]
    path = tmp_path / f"kept.{extension}"
    write_audio(path, wave, 16000)
    audio = load_audio(path)
    assert len(audio.samples) == len(wave)
    assert similarity(audio.samples, wave) > 0.99
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
