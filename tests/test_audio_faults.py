"""Bad recordings, and places that cannot be written: one line each, or a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.stream import Disposition
from recordings import encode, voice, wav_bytes

from speechprune_cli.audio import load_audio, write_audio
from speechprune_cli.errors import AudioError, SpeechPruneError, UsageError

NOT_AUDIO = {
    "empty.wav": (b"", r"is empty \(0 bytes\)$"),
    "text.wav": (b"these are words, not sound\n" * 40, r"not audio: .*b'these are words,'$"),
    "text.mp3": (b"these are words, not sound\n" * 40, r"not audio|no samples"),
    "one.wav": (b"R", r"not audio"),
    "cut.mp3": (
        b"ID3\x04" + bytes(5) + b"\x0a" + bytes(10) + b"\xff\xf3\x40\xc0" + bytes(60),
        r"not audio",
    ),
    "cut.wav": (wav_bytes(b"")[:20], r"not audio"),
    "noise.wav": (np.random.default_rng(0).bytes(50_000), r"not audio|no samples"),
    "channels.wav": (wav_bytes(bytes(100), channels=0), r"not audio: Channel count is zero; "),
    "samples.wav": (wav_bytes(b""), r"holds no samples$"),
    "rate.wav": (wav_bytes(bytes(2000), rate=1), r"1 samples a second; at least 1,000"),
}


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_what_is_not_audio(tmp_path: Path, name: str, capfd) -> None:
    content, message = NOT_AUDIO[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == "", "no library has a word to say"


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "other.wav", voice(1, 16000), 16000)
    (tmp_path / "list.wav").write_bytes(b"ffconcat version 1.0\nfile other.wav\n")
    with pytest.raises(AudioError, match="not audio"):
        load_audio(tmp_path / "list.wav")


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="there is no such file"):
        load_audio(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="is a folder"):
        load_audio(tmp_path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_of_a_film_only_the_sound_is_heard_and_a_line_says_so(tmp_path: Path, name: str) -> None:
    path = write_film(tmp_path / name)
    audio = load_audio(path)
    assert audio.warnings == (
        f"{path}: a film: only its sound is heard, its pictures are not looked at",
    )
    assert audio.seconds == pytest.approx(1, abs=0.1)


def test_a_cover_is_no_film(tmp_path: Path) -> None:
    assert load_audio(write_film(tmp_path / "a.mp4", cover=True)).warnings == ()


def write_film(path: Path, cover: bool = False) -> Path:
    """A second of black pictures, or one that is marked as a cover, with a tone."""
    with av.open(path, "w") as film:
        pictures = film.add_stream("mjpeg" if cover else "mpeg4", rate=10)
        pictures.width, pictures.height = 64, 64
        pictures.pix_fmt = "yuvj420p" if cover else "yuv420p"
        if cover:
            pictures.disposition = Disposition.attached_pic
        sound = film.add_stream("aac", rate=16000, layout="mono")
        black = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        for picture in [black] * (1 if cover else 10) + [None]:
            film.mux(pictures.encode(picture))
        tone = np.sin(np.arange(16000, dtype=np.float32) / 10)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        for each in (frame, None):
            film.mux(sound.encode(each))
    return path


def test_video_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match=r"holds no audio track, only video$"):
        load_audio(path)


def test_subtitles_for_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nThe report is due\n\n")
    with pytest.raises(AudioError, match=r"only subtitle: give the recording, and this with --f"):
        load_audio(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    wave = voice(2, 16000, channels=2)
    wave[24000, 1] = value
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"the sample at 1\.500 s is NaN or infinite$"):
        load_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.opus", "a.m4a"])
def test_truncated_is_decoded_with_a_warning(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
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


def test_last_bytes_missing(tmp_path: Path) -> None:
    wave = bytes(range(1, 201)) * 160
    (tmp_path / "a.wav").write_bytes(wav_bytes(wave, stated=len(wave) + 100))
    (warning,) = load_audio(tmp_path / "a.wav").warnings
    assert warning.endswith(": truncated: its last 3.1 ms are missing")


def test_damage_inside_is_skipped_with_a_warning(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", voice(4, 16000), 16000, "aac", movflags="faststart")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    audio = load_audio(path)
    assert 2 < audio.seconds < 4.1
    assert len(audio.warnings) == 1


def test_silence_and_short_clips_go_on(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(32000), 16000)
    soundfile.write(tmp_path / "short.wav", voice(0.05, 16000), 16000)
    soundfile.write(tmp_path / "short.mp3", voice(0.05, 16000), 16000)
    assert "silence" in load_audio(tmp_path / "silence.wav").warnings[0]
    for name in ("short.wav", "short.mp3"):
        audio = load_audio(tmp_path / name)
        assert len(audio.samples) == 800
        assert "only 0.050 s long" in audio.warnings[0]


def test_truncated_mp3_makes_no_noise_of_its_own(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.mp3", voice(4, 16000), 16000)
    data = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(data[: len(data) // 2])
    code = "import sys; from speechprune_cli.audio import load_audio as load; "
    code += "print(load(sys.argv[1]).warnings)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.mp3"], capture_output=True)
    assert b"truncated" in done.stdout
    assert done.stderr == b""


def test_where_writing_is_refused(tmp_path: Path) -> None:
    wave = voice(0.1, 16000)
    with pytest.raises(UsageError, match=r"cannot write '.xyz', only .wav, .flac"):
        write_audio(tmp_path / "a.xyz", wave, 16000)
    with pytest.raises(UsageError, match="there is no folder"):
        write_audio(tmp_path / "none" / "a.wav", wave, 16000)
    with pytest.raises(UsageError, match="sample rate"):
        write_audio(tmp_path / "a.opus", wave, 44100)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(SpeechPruneError, match=r"cannot write .*folder\.wav"):
        write_audio(tmp_path / "folder.wav", wave, 16000)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.wav"]


FULL_DISK = """
import resource, numpy
from speechprune_cli.audio import write_audio
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
write_audio({target!r}, numpy.random.uniform(-1, 1, 100_000), 16000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(b"what was there")
    code = FULL_DISK.format(target=str(tmp_path / "a.flac"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert b"SpeechPruneError: cannot write " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.flac"]
    assert (tmp_path / "a.flac").read_bytes() == b"what was there"
