"""Recordings of every kind decode to the sample, and bad ones say in one line what is wrong."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from speechprune_cli.audio import load_audio, write_audio
from speechprune_cli.errors import AudioError, SpeechPruneError, UsageError

RATES = (8000, 11025, 16000, 22050, 44100, 48000, 96000)


def voice(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Something with the rhythm of speech: `[frames, channels]`, no two stretches alike."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 2 * np.pi * (180 * time + 40 * np.sin(1.3 * time))
    wave = (0.5 + 0.5 * np.sin(9 * time)) * (np.sin(pitch) + 0.5 * np.sin(3 * pitch))
    gains = np.linspace(1, 0.5, channels)
    return (0.2 * wave[:, None] * gains).astype(np.float32)


def expected(wave: np.ndarray, rate: int) -> np.ndarray:
    """Mono at 16 kHz by the one-shot resampler, cut to the promised length."""
    return soxr.resample(wave.mean(axis=1), rate, 16000)[: round(len(wave) * 16000 / rate)]


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """1 for the same sound at the same time."""
    return float(np.corrcoef(a, b)[0, 1])


def encode(path: Path, wave: np.ndarray, rate: int, codec: str, **options: str) -> Path:
    """Write with FFmpeg's encoders."""
    layout = "mono" if wave.shape[1] == 1 else "stereo"
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        for start in range(0, len(wave), 1000):
            planes = np.ascontiguousarray(wave[start : start + 1000].T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def wav_bytes(data: bytes, channels: int = 1, stated: int | None = None) -> bytes:
    """A 16-bit wav at 16 kHz whose header may lie about the length of `data`."""
    length = len(data) if stated is None else stated
    block = channels * 2
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, 16000, 16000 * block, block, 16)
    riff = min(36 + length, 0xFFFFFFFF)
    return b"RIFF%sWAVEfmt %sdata%s%s" % (
        struct.pack("<I", riff),
        fmt,
        struct.pack("<I", length),
        data,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "aiff"])
def test_any_rate_to_the_sample(folder: Path, extension: str, rate: int) -> None:
    wave = voice(1.2345, rate, channels=2)
    path = folder / f"a.{extension}"
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
def test_opus_and_mp3(folder: Path, name: str, rate: int) -> None:
    wave = voice(2.345, rate)
    write_audio(folder / name, wave, rate)
    audio = load_audio(folder / name)
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
    folder: Path, name: str, codec: str, rate: int, channels: int
) -> None:
    wave = voice(2.345, rate, channels)
    if codec in {"alac", "flac"}:  # encoders of integers
        path = encode_integers(folder / name, wave, rate, codec)
    else:
        path = encode(folder / name, wave, rate, codec)
    audio = load_audio(path)
    assert audio.source_seconds == len(wave) / rate
    assert audio.channels == channels
    assert similarity(audio.samples, expected(wave, rate)) > 0.98
    assert audio.warnings == ()


def encode_integers(path: Path, wave: np.ndarray, rate: int, codec: str) -> Path:
    layout, planar = ("mono", "s16p") if wave.shape[1] == 1 else ("stereo", "s16p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        planes = np.ascontiguousarray((wave * 32767).astype(np.int16).T)
        frame = av.AudioFrame.from_ndarray(planes, format=planar, layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_mp3_without_a_length_header_is_not_cut(folder: Path) -> None:
    """soundfile reads half of such a file: its length is a guess from the first frame."""
    path = folder / "a.mp3"
    wave = voice(4, 16000)
    soundfile.write(path, wave, 16000)
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 4) :])
    audio = load_audio(path)
    assert 4 <= audio.source_seconds < 4.2
    assert audio.warnings == ()


def test_unfinished_headers_are_read_to_the_end(folder: Path) -> None:
    wave = voice(2, 16000)
    (folder / "zero.wav").write_bytes(wav_bytes(bytes(1000) + b"\1\2" * 31500, stated=0))
    soundfile.write(folder / "a.flac", wave, 16000)
    data = bytearray((folder / "a.flac").read_bytes())
    data[21] &= 0xF0  # STREAMINFO: the 36 bits of the number of samples
    data[22:26] = bytes(4)
    (folder / "a.flac").write_bytes(data)
    for name in ("zero.wav", "a.flac"):
        audio = load_audio(folder / name)
        assert len(audio.samples) == 32000
        assert audio.warnings == ()


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 11])
def test_channels_are_averaged(folder: Path, channels: int) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (5000, channels)).astype(np.float32)
    soundfile.write(folder / "a.wav", wave, 16000, subtype="FLOAT")
    audio = load_audio(folder / "a.wav")
    assert audio.channels == channels
    np.testing.assert_allclose(audio.samples, wave.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("frames", [1601, 16384, 16385, 100_003])
def test_blocks_leave_no_seams(folder: Path, frames: int) -> None:
    wave = voice(3, 44100)[:frames]
    soundfile.write(folder / "a.wav", wave, 44100, subtype="FLOAT")
    np.testing.assert_allclose(
        load_audio(folder / "a.wav").samples, expected(wave, 44100), atol=1e-6
    )


def test_hash_and_durations(folder: Path) -> None:
    path = folder / "a.wav"
    soundfile.write(path, voice(1.5, 22050), 22050)
    audio = load_audio(str(path))
    assert audio.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert audio.source == str(path)
    assert audio.source_seconds == pytest.approx(1.5)
    assert audio.seconds == pytest.approx(1.5, abs=1 / 16000)


def test_the_extension_does_not_matter(folder: Path) -> None:
    wave = voice(1, 16000)
    write_audio(folder / "a.mp3", wave, 16000)
    write_audio(folder / "b.wav", wave, 16000)
    (folder / "a.mp3").rename(folder / "a.wav")
    (folder / "b.wav").rename(folder / "b.raw")
    assert len(load_audio(folder / "a.wav").samples) == 16000
    assert len(load_audio(folder / "b.raw").samples) == 16000


NOT_AUDIO = {
    "empty.wav": (b"", r"is empty \(0 bytes\)$"),
    "text.wav": (b"these are words, not sound\n" * 40, r"not audio: .*b'these are words,'$"),
    "text.mp3": (b"these are words, not sound\n" * 40, r"not audio|no samples"),
    "one.wav": (b"R", r"not audio"),
    "cut.wav": (wav_bytes(b"")[:20], r"not audio"),
    "noise.wav": (np.random.default_rng(0).bytes(50_000), r"not audio|no samples"),
    "channels.wav": (wav_bytes(bytes(100), channels=0), r"not audio: Channel count is zero; "),
    "samples.wav": (wav_bytes(b""), r"holds no samples$"),
    "list.wav": (b"ffconcat version 1.0\nfile samples.wav\n", r"not audio"),
}


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_what_is_not_audio(folder: Path, name: str) -> None:
    content, message = NOT_AUDIO[name]
    path = folder / name
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_and_folder(folder: Path) -> None:
    with pytest.raises(AudioError, match="there is no such file"):
        load_audio(folder / "missing.wav")
    with pytest.raises(AudioError, match="is a folder"):
        load_audio(folder)


def test_video_without_sound(folder: Path) -> None:
    path = folder / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="holds no audio track, only video$"):
        load_audio(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(folder: Path, value: float) -> None:
    wave = voice(2, 16000, channels=2)
    wave[24000, 1] = value
    soundfile.write(folder / "a.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"the sample at 1\.500 s is NaN or infinite$"):
        load_audio(folder / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.opus", "a.m4a"])
def test_truncated_is_decoded_with_a_warning(folder: Path, name: str) -> None:
    path = folder / name
    if path.suffix == ".m4a":
        encode(path, voice(4, 16000), 16000, "aac", movflags="faststart")
    else:
        write_audio(path, voice(4, 16000), 16000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    audio = load_audio(path)
    assert 0.5 < audio.seconds < 3.5
    (warning,) = audio.warnings
    assert warning.startswith(f"{path}: ")
    assert f"{audio.seconds:.2f} s could be read" in warning
    if path.suffix in {".wav", ".mp3", ".flac"}:
        assert "truncated: its header says 4.00 s" in warning


def test_last_bytes_missing(folder: Path) -> None:
    wave = bytes(range(1, 201)) * 160
    (folder / "a.wav").write_bytes(wav_bytes(wave, stated=len(wave) + 100))
    assert "truncated" in load_audio(folder / "a.wav").warnings[0]


def test_damage_inside_is_skipped_with_a_warning(folder: Path) -> None:
    path = encode(folder / "a.m4a", voice(4, 16000), 16000, "aac", movflags="faststart")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    audio = load_audio(path)
    assert 2 < audio.seconds < 4.1
    assert len(audio.warnings) == 1


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0xFFFFFFFF - 36, 0x80000000, 0x7FFFF000])
def test_wav_written_into_a_pipe(folder: Path, stated: int) -> None:
    sound = (voice(1, 16000) * 32767).astype("<i2").tobytes()
    (folder / "a.wav").write_bytes(wav_bytes(sound, stated=stated))
    audio = load_audio(folder / "a.wav")
    assert len(audio.samples) == 16000
    assert audio.warnings == ()


def test_silence_and_short_clips_go_on(folder: Path) -> None:
    soundfile.write(folder / "silence.wav", np.zeros(32000), 16000)
    soundfile.write(folder / "short.wav", voice(0.05, 16000), 16000)
    soundfile.write(folder / "short.mp3", voice(0.05, 16000), 16000)
    assert "silence" in load_audio(folder / "silence.wav").warnings[0]
    for name in ("short.wav", "short.mp3"):
        audio = load_audio(folder / name)
        assert len(audio.samples) == 800
        assert "only 0.050 s long" in audio.warnings[0]


SHOW_LENGTH = """
from speechprune_cli.audio import load_audio
audio = load_audio({source!r})
print(len(audio.samples), audio.source_rate, *audio.warnings)
"""


def in_a_process(source: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    code = SHOW_LENGTH.format(source=source)
    return subprocess.run([sys.executable, "-c", code], input=given, capture_output=True)


def test_standard_input(folder: Path) -> None:
    sound = (voice(1, 16000) * 32767).astype("<i2").tobytes()
    done = in_a_process("-", wav_bytes(sound, stated=0xFFFFFFFF))
    assert (done.stdout, done.stderr) == (b"16000 16000\n", b"")
    m4a = encode(folder / "a.m4a", voice(1, 44100), 44100, "aac").read_bytes()
    done = in_a_process("-", m4a)
    assert (done.stdout, done.stderr) == (b"16000 44100\n", b"")
    done = in_a_process("-")
    assert done.stderr.endswith(b"AudioError: standard input: is empty (0 bytes)\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_named_pipe(folder: Path) -> None:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    sound = wav_bytes((voice(1, 16000) * 32767).astype("<i2").tobytes())
    writer = threading.Thread(target=pipe.write_bytes, args=(sound,))
    writer.start()
    audio = load_audio(pipe)
    writer.join()
    assert len(audio.samples) == 16000


def test_truncated_mp3_makes_no_noise_of_its_own(folder: Path) -> None:
    write_audio(folder / "a.mp3", voice(4, 16000), 16000)
    data = (folder / "a.mp3").read_bytes()
    (folder / "a.mp3").write_bytes(data[: len(data) // 2])
    done = in_a_process(str(folder / "a.mp3"))
    assert b"truncated" in done.stdout
    assert done.stderr == b""


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
def test_memory_is_that_of_the_samples(folder: Path) -> None:
    """10 minutes of six channels: 115 MB of file, 38 MB of samples."""
    frames = 10 * 60 * 16000
    path = folder / "long.wav"
    path.write_bytes(wav_bytes(b"", channels=6, stated=frames * 12))
    os.truncate(path, 44 + frames * 12)  # a sparse file
    code = PEAK_MEMORY.format(source=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    samples, grown = map(int, done.stdout.split())
    assert samples == frames * 4
    assert grown < 1.3 * samples + 20e6


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3"])
def test_written_is_read_back(folder: Path, extension: str) -> None:
    """libsndfile crashes on three minutes of Vorbis at once."""
    wave = voice(180 if extension == "ogg" else 3, 16000)[:, 0]
    path = folder / f"kept.{extension}"
    write_audio(path, wave, 16000)
    audio = load_audio(path)
    assert len(audio.samples) == len(wave)
    assert similarity(audio.samples, wave) > 0.99
    assert os.listdir(folder) == [path.name]


def test_where_writing_is_refused(folder: Path) -> None:
    wave = voice(0.1, 16000)
    with pytest.raises(UsageError, match=r"cannot write '.xyz', only .wav, .flac"):
        write_audio(folder / "a.xyz", wave, 16000)
    with pytest.raises(UsageError, match="there is no folder"):
        write_audio(folder / "none" / "a.wav", wave, 16000)
    with pytest.raises(UsageError, match="sample rate"):
        write_audio(folder / "a.opus", wave, 44100)
    (folder / "folder.wav").mkdir()
    with pytest.raises(SpeechPruneError, match=r"cannot write .*folder\.wav"):
        write_audio(folder / "folder.wav", wave, 16000)
    assert os.listdir(folder) == ["folder.wav"]


FULL_DISK = """
import resource, numpy
from speechprune_cli.audio import write_audio
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
write_audio({target!r}, numpy.random.uniform(-1, 1, 100_000), 16000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_leaves_nothing(folder: Path) -> None:
    (folder / "a.flac").write_bytes(b"what was there")
    code = FULL_DISK.format(target=str(folder / "a.flac"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert b"SpeechPruneError: cannot write " in done.stderr
    assert os.listdir(folder) == ["a.flac"]
    assert (folder / "a.flac").read_bytes() == b"what was there"
