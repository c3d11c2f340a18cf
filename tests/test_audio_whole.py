"""Nothing of a recording is lost, and nothing that is missing goes unsaid."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from recordings import expected, similarity, voice, wav_bytes, write_tracks

from speechprune_cli.audio import load_audio, recording_seconds, write_audio
from speechprune_cli.bench.plan import long_enough
from speechprune_cli.bench.tasks.jsonl import read
from speechprune_cli.decoder import Recording
from speechprune_cli.errors import AudioError, UsageError
from speechprune_cli.stated import PIECE, Part, next_file, wav_seconds

KINDS = [
    ("m4a", "aac"), ("mp4", "alac"), ("mp4", "ac3"), ("mp4", "flac"), ("mov", "pcm_s16le"),
    ("mov", "pcm_mulaw"), ("mov", "adpcm_ima_qt"), ("mp4", "libmp3lame"),
    ("mka", "aac"), ("mka", "libopus"), ("mka", "flac"), ("mka", "libmp3lame"), ("mka", "alac"),
    ("mka", "pcm_s16le"), ("webm", "libopus"), ("aac", "aac"), ("ts", "aac"), ("ts", "mp2"),
    ("ts", "libmp3lame"), ("ts", "ac3"), ("mpg", "mp2"), ("avi", "libmp3lame"),
    ("avi", "pcm_s16le"), ("avi", "ac3"), ("flv", "aac"), ("flv", "libmp3lame"),
    ("mp3", "libmp3lame"), ("mp2", "mp2"), ("ac3", "ac3"), ("eac3", "eac3"), ("flac", "flac"),
    ("ogg", "flac"), ("ogg", "libopus"), ("wv", "wavpack"), ("tta", "tta"),
    ("aiff", "pcm_s16be"), ("aiff", "pcm_s24be"), ("caf", "pcm_s16be"), ("caf", "adpcm_ima_qt"),
    ("caf", "alac"),
    ("wav", "pcm_s24le"), ("wav", "pcm_f64le"), ("wav", "pcm_u8"), ("wav", "pcm_alaw"),
    ("wav", "adpcm_ima_wav"), ("wav", "adpcm_ms"), ("wav", "libmp3lame"), ("wav", "ac3"),
    ("w64", "pcm_s16le"), ("au", "pcm_s16be"), ("voc", "pcm_u8"), ("amr", "libopencore_amrnb"),
    ("3gp", "libopencore_amrnb"), ("3gp", "aac"), ("sox", "pcm_s32le"), ("latm", "aac"),
]  # fmt: skip
TELLING = {
    "mka", "webm", "flv", "mp3", "flac", "ogg", "wv", "tta", "aiff", "caf", "wav", "w64", "au",
    "avi",
}  # fmt: skip
"""What is cut off and still opens, and says how long it was."""
SHAPES = [(44100, 2), (48000, 1), (8000, 1), (22050, 2)]
QUICK = [("m4a", "aac"), ("mka", "libopus"), ("mp3", "libmp3lame"), ("wav", "pcm_s24le")]


def recorded(folder: Path, extension: str, codec: str, rate: int, channels: int) -> Path:
    """Three seconds; skips what the encoder cannot make."""
    path = folder / f"a.{extension}"
    try:
        return write_tracks(path, [voice(3, rate, channels)], rate, codec)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"{codec} in {extension} at {rate} Hz: {error}")


def decoded_seconds(path: Path) -> float:
    """All that FFmpeg makes of the track, whatever its times say."""
    total = 0.0
    with path.open("rb") as file, av.open(file) as container, suppress(av.FFmpegError):
        for packet in container.demux(container.streams.audio[0]):
            with suppress(av.FFmpegError):
                total += sum(frame.samples / frame.sample_rate for frame in packet.decode())
    return total


def check_intact(folder: Path, extension: str, codec: str, rate: int, channels: int) -> None:
    path = recorded(folder, extension, codec, rate, channels)
    audio, frame = load_audio(path), 2048 / rate  # mp4 says what of its last frame is padding
    assert audio.warnings == ()
    assert audio.source_seconds <= max(decoded_seconds(path), 3) + 0.02
    assert audio.source_seconds >= min(decoded_seconds(path) - 0.02, 3)
    assert abs(audio.source_seconds - 3) < 0.12 + frame
    assert abs(recording_seconds(path) - audio.source_seconds) < 0.2
    assert len(audio.samples) == round(audio.source_seconds * 16000)


def check_cut(folder: Path, extension: str, codec: str, rate: int, channels: int) -> None:
    """At several places: all that is left is read, and who knows of the loss says so."""
    path = recorded(folder, extension, codec, rate, channels)
    data, cut = path.read_bytes(), folder / f"cut.{extension}"
    for share in (0.3, 0.6, 0.9):
        cut.write_bytes(data[: round(len(data) * share)])
        try:
            audio = load_audio(cut)
        except AudioError:
            continue  # its index is at its end, or its first packet is the whole
        told = " ".join(audio.warnings)
        assert audio.source_seconds >= decoded_seconds(cut) - 0.02
        assert "could be read" in told or extension not in TELLING
        assert audio.source_seconds < 2.9 or codec == "alac" or share == 0.9


@pytest.mark.parametrize(("extension", "codec"), QUICK)
def test_intact_files_are_whole_and_never_warn(tmp_path: Path, extension: str, codec: str) -> None:
    check_intact(tmp_path, extension, codec, 48000, 1)


@pytest.mark.parametrize(("extension", "codec"), QUICK)
def test_cut_files_say_so(tmp_path: Path, extension: str, codec: str) -> None:
    check_cut(tmp_path, extension, codec, 48000, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "channels"), SHAPES)
@pytest.mark.parametrize(("extension", "codec"), KINDS)
def test_every_container_codec_and_shape(
    tmp_path: Path, extension: str, codec: str, rate: int, channels: int
) -> None:
    check_intact(tmp_path, extension, codec, rate, channels)
    check_cut(tmp_path, extension, codec, rate, channels)


JOINED = [
    ("mp3", "libmp3lame"), ("aac", "aac"), ("ts", "aac"), ("flac", "flac"), ("ogg", "flac"),
    ("wav", "pcm_s16le"), ("m4a", "aac"), ("mka", "aac"), ("aiff", "pcm_s16be"),
    ("w64", "pcm_s16le"), ("flv", "aac"), ("tta", "tta"), ("ac3", "ac3"), ("mpg", "mp2"),
]  # fmt: skip


@pytest.mark.parametrize(("extension", "codec"), JOINED)
def test_joined_files_of_other_rates_and_channels(
    tmp_path: Path, extension: str, codec: str
) -> None:
    """All of it, each stretch at its own pitch, and in its place."""
    shapes, data = ((44100, 1), (44100, 2), (48000, 2)), b""
    for rate, channels in shapes:
        path = write_tracks(tmp_path / f"a.{extension}", [voice(2, rate, channels)], rate, codec)
        data += path.read_bytes()
    path.write_bytes(data)
    audio = load_audio(path)
    assert audio.warnings == ()
    assert 6 <= audio.source_seconds < 6.3
    assert recording_seconds(path) == pytest.approx(audio.source_seconds, abs=0.5)
    for number, (rate, channels) in enumerate(shapes):
        wave = expected(voice(2, rate, channels), rate)
        assert stands_at(2 * number + 0.5, audio.samples, wave[8000:24000], give=0.3)


def stands_at(place: float, samples: np.ndarray, wave: np.ndarray, give: float = 0.05) -> bool:
    """Whether the sound `wave` is at that second of what was read, or up to `give` beside it."""
    middle, slack = round(place * 16000), round(give * 16000)
    around = samples[max(middle - slack, 0) : middle + slack + len(wave)]
    products = np.correlate(around, wave)
    best = int(products.argmax())
    return similarity(around[best : best + len(wave)], wave) > 0.9


@pytest.mark.parametrize(("extension", "codec"), [("m4a", "aac"), ("wav", "pcm_s16le")])
def test_a_joined_file_that_cannot_be_read_is_told_of(
    tmp_path: Path, extension: str, codec: str
) -> None:
    path = write_tracks(tmp_path / f"a.{extension}", [voice(2, 48000)], 48000, codec)
    path.write_bytes(path.read_bytes() + path.read_bytes()[:30])
    (warning,) = load_audio(path).warnings
    assert warning.endswith("damaged or cut off: 2.00 s could be read")


@pytest.mark.parametrize("extension", ["ogg", "opus"])
def test_chained_ogg_whose_rate_and_channels_change(tmp_path: Path, extension: str) -> None:
    path, data = tmp_path / f"a.{extension}", b""
    for rate, channels in ((16000, 1), (24000, 2), (48000, 1)):
        write_audio(path, voice(2, rate, channels), rate)
        data += path.read_bytes()
    path.write_bytes(data)
    audio = load_audio(path)
    assert audio.source_seconds == pytest.approx(6, abs=0.05)
    assert recording_seconds(path) == pytest.approx(6, abs=0.05)
    assert audio.warnings == ()


def test_joined_mp3_with_tags_between(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    write_audio(path, voice(3, 16000), 16000)
    tag = b"ID3\3\0\0\0\0\7\x76" + bytes(1014)
    path.write_bytes((tag + path.read_bytes() + b"TAG" + b"x" * 125) * 2)
    audio = load_audio(path)
    assert audio.source_seconds == pytest.approx(6, abs=0.15)
    assert audio.warnings == ()


@pytest.mark.parametrize(
    ("name", "codec", "film"),
    [("a.mp4", "aac", 12), ("a.mkv", "aac", 12), ("a.ts", "aac", 12), ("a.mka", "libopus", 0)],
)
def test_sound_that_begins_late_stands_where_it_is(
    tmp_path: Path, name: str, codec: str, film: float
) -> None:
    wave = voice(3, 48000)
    path = write_tracks(tmp_path / name, [wave], 48000, codec, begin=5, film=film)
    audio = load_audio(path)
    assert not np.abs(audio.samples[: round(4.9 * 16000)]).max()
    assert stands_at(5, audio.samples, expected(wave, 48000)[:40_000])
    assert recording_seconds(path) == pytest.approx(8, abs=0.05)
    assert [line for line in audio.warnings if "a film" not in line] == []


@pytest.mark.parametrize("name", ["a.mka", "a.webm", "a.mp4"])
@pytest.mark.parametrize("pause", [0.5, 20.0])
def test_pauses_are_silence(tmp_path: Path, name: str, pause: float) -> None:
    wave = voice(4, 48000)
    path = write_tracks(tmp_path / name, [wave], 48000, "libopus", pause=(2, pause))
    audio = load_audio(path)
    assert audio.source_seconds == pytest.approx(4 + pause, abs=0.05)
    assert stands_at(2.2 + pause, audio.samples, expected(wave, 48000)[35_200:51_200])
    assert audio.warnings == ()


def test_a_clock_that_leaps_hours_is_not_followed(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.ts", [voice(4, 48000)], 48000, "aac", pause=(2, 20_000))
    audio = load_audio(path)
    assert audio.source_seconds < 4.1
    assert "its clock leaps ahead by 20000 s, which is not followed" in audio.warnings[0]


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_of_several_tracks_the_default_one_or_the_one_asked_for(
    tmp_path: Path, extension: str
) -> None:
    waves = [voice(2, 48000), voice(2, 48000)[::-1].copy(), voice(2, 48000) * 0]
    path = write_tracks(tmp_path / f"a.{extension}", waves, 48000, "aac", default=1)
    audio = load_audio(path)
    told = "3 audio tracks: only track 2 is read, --track takes another"
    assert audio.warnings == (f"{path}: {told}",)
    assert similarity(audio.samples[:32000], expected(waves[1], 48000)) > 0.98
    first = load_audio(path, track=1)
    assert similarity(first.samples[:32000], expected(waves[0], 48000)) > 0.98
    assert first.warnings == ()
    assert first.sha256 != audio.sha256 == load_audio(path, track=2).sha256
    assert "silence" in load_audio(path, track=3).warnings[0]
    for number in (0, 4):
        with pytest.raises(UsageError, match=r"--track \d: the audio tracks of .* are 1 to 3"):
            load_audio(path, track=number)


def test_channels_that_cancel_are_not_silence(tmp_path: Path) -> None:
    left = voice(3, 16000)[:, 0]
    soundfile.write(tmp_path / "a.wav", np.stack([left, -0.9 * left], axis=1), 16000)
    audio = load_audio(tmp_path / "a.wav")
    assert similarity(audio.samples, left) > 0.999
    (warning,) = audio.warnings
    assert "its channels cancel each other for 3.0 s: the loudest is taken there" in warning


def test_samples_beyond_all_bounds(tmp_path: Path) -> None:
    wave = voice(1, 16000)
    wave[8000] = 1e30
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"the sample at 0\.500 s is 1e\+30, full scale is 1$"):
        load_audio(tmp_path / "a.wav")


def test_cut_off_rf64(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(4, 16000), 16000, format="RF64")
    path.write_bytes(path.read_bytes()[:64_000])
    assert "truncated: its header says 4.00 s, only 2.00 s" in load_audio(path).warnings[0]


@pytest.mark.parametrize("extension", ["flac", "ogg", "ts", "flv", "mp4"])
def test_behind_damage_reading_goes_on_and_times_stay(tmp_path: Path, extension: str) -> None:
    codec = {"flac": "flac", "ogg": "libopus", "mp4": "alac"}.get(extension, "aac")
    wave = voice(8, 48000)
    path = write_tracks(tmp_path / f"a.{extension}", [wave], 48000, codec)
    data = bytearray(path.read_bytes())
    middle, hurt = len(data) // 2, len(data) // 20
    data[middle : middle + hurt] = bytes(hurt)
    path.write_bytes(data)
    audio = load_audio(path)
    assert audio.source_seconds == pytest.approx(8, abs=0.1)
    assert stands_at(6, audio.samples, expected(wave, 48000)[96_000:112_000])
    (warning,) = audio.warnings
    assert "hold no sound and count as silence" in warning


@pytest.mark.parametrize("codec", ["pcm_s16le", "libmp3lame"])
def test_damage_inside_avi_is_told_of(tmp_path: Path, codec: str) -> None:
    path = write_tracks(tmp_path / "a.avi", [voice(8, 48000)], 48000, codec)
    data = bytearray(path.read_bytes())
    middle, hurt = len(data) // 2, len(data) // 20
    data[middle : middle + hurt] = bytes(hurt)
    path.write_bytes(data)
    (warning,) = load_audio(path).warnings
    assert re.search(r"damaged or cut off: 7\.\d\d s could be read", warning)


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_nms_adpcm_is_not_taken_for_a_codec_of_telephones(tmp_path: Path, bits: int) -> None:
    wave, path = voice(4, 8000), tmp_path / "a.wav"
    soundfile.write(path, wave, 8000, subtype=f"NMS_ADPCM_{bits}")
    audio = load_audio(path)
    assert audio.warnings == ()
    assert audio.source_seconds == recording_seconds(path) == pytest.approx(4, abs=0.02)
    assert similarity(audio.samples[:64_000], expected(wave, 8000)) > 0.9
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "could be read" in load_audio(path).warnings[0]


def test_the_length_is_that_of_what_is_read(tmp_path: Path) -> None:
    """Whatever a header says, and whatever the name is."""
    sound = (voice(4, 16000) * 32767).astype("<i2").tobytes()
    (tmp_path / "pipe.wav").write_bytes(wav_bytes(sound, stated=0))
    (tmp_path / "b.raw").write_bytes(wav_bytes(sound))
    (tmp_path / "cut.wav").write_bytes(wav_bytes(sound[: len(sound) // 2], stated=len(sound)))
    lengths = [recording_seconds(tmp_path / name) for name in ("pipe.wav", "b.raw", "cut.wav")]
    assert lengths == [4, 4, 2]
    (tmp_path / "text.wav").write_text("no sound", encoding="utf-8")
    for name in ("text.wav", "missing.wav", "."):
        assert recording_seconds(tmp_path / name) == float("inf")


def test_lengths_are_taken_from_headers_that_can_be_trusted(tmp_path: Path) -> None:
    """Of a long recording, next to nothing is read; joined ones are not taken for the first."""
    sound = (voice(60, 16000) * 32767).astype("<i2").tobytes()
    plain, listed = wav_bytes(sound), wav_bytes(sound) + b"LIST\x04\0\0\0INFO"
    for name, data, seconds, is_quick in (
        ("a.wav", plain, 60, True),
        ("b.wav", listed, 60, True),
        ("twice.wav", plain + plain, 120, False),
        ("tail.wav", plain + b"LIST\xff\0\0\0INFO", 60, False),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with path.open("rb") as file:
            assert (wav_seconds(Part(file)) == seconds) is is_quick
        assert recording_seconds(path) == load_audio(path).source_seconds == seconds
    write_audio(tmp_path / "a.opus", voice(60, 16000), 16000)
    with (tmp_path / "a.opus").open("rb") as file:
        recording = Recording(Part(file), "a.opus")
        assert recording.seconds() == pytest.approx(60, abs=0.01)
        assert not recording.bytes_end  # no packet was looked at


def test_an_ogg_stream_that_is_not_read_to_its_end_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    write_audio(path, voice(4, 16000), 16000)
    data = bytearray(path.read_bytes())
    page = data.find(b"OggS", len(data) // 2)
    data[page : page + 1000] = bytes(1000)
    path.write_bytes(data)
    (warning,) = load_audio(path).warnings
    assert "truncated: its header says 4.01 s, only 3.00 s could be read" in warning


def test_a_wav_of_which_ffmpeg_skips_sound_says_so(tmp_path: Path) -> None:
    sound = (voice(2, 16000) * 32767).astype("<i2").tobytes()
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(sound) + b"data" + len(sound).to_bytes(4, "little") + sound)
    (warning,) = load_audio(path).warnings
    assert warning.endswith("damaged or cut off: 2.00 s could be read")


def test_benchmarks_know_lengths_as_they_are_read(tmp_path: Path) -> None:
    """A header of a pipe says 0 s, and of joined files only the first's length."""
    sound = (voice(4, 16000) * 32767).astype("<i2").tobytes()
    (tmp_path / "pipe.wav").write_bytes(wav_bytes(sound, stated=0))
    write_audio(tmp_path / "a.opus", voice(3, 16000), 16000)
    (tmp_path / "joined.opus").write_bytes((tmp_path / "a.opus").read_bytes() * 2)
    lines = [
        {"audio": "pipe.wav", "question": "q", "answer": "x", "key": [0.1, 4.0]},
        {"audio": "joined.opus", "question": "q", "answer": "x", "key": [4.0, 6.0]},
    ]
    index = tmp_path / "index.jsonl"
    index.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    samples = read("jsonl", index).samples
    assert [each.audio.name for each in long_enough(samples, 5)] == ["joined.opus"]
    index.write_text(json.dumps({**lines[0], "key": [0.1, 5.0]}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"ends at 5 s, pipe\.wav at 4\.00 s"):
        read("jsonl", index)


def test_headers_that_are_wrong_raise_nothing_else(tmp_path: Path) -> None:
    """One byte after another: an error of ours, or sound; never more of it than there may be."""
    rng = np.random.default_rng(0)
    for extension, codec in (*QUICK, ("ogg", "flac"), ("flac", "flac"), ("aiff", "pcm_s16be")):
        path = write_tracks(tmp_path / f"a.{extension}", [voice(1, 48000)], 48000, codec)
        data = path.read_bytes()
        for place in rng.integers(0, min(len(data), 600), 25):
            hurt = bytearray(data)
            hurt[place] ^= int(rng.integers(1, 256))
            path.write_bytes(hurt)
            with suppress(AudioError):
                assert load_audio(path).seconds < 3600
            recording_seconds(path)


@pytest.mark.parametrize("gap", [0, PIECE - 2, PIECE - 4, PIECE, 3 * PIECE - 1])
def test_the_next_file_is_found_wherever_pieces_end(tmp_path: Path, gap: int) -> None:
    path = tmp_path / "two.wav"
    path.write_bytes(b"RIFF" + bytes(96 + gap) + b"RIFF" + bytes(PIECE))
    with path.open("rb") as file:
        assert next_file(Part(file), 100) == 100 + gap
        assert next_file(Part(file), 104 + gap) is None


def test_more_joined_files_than_anybody_has_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("speechprune_cli.audio.MOST_PARTS", 3)
    write_audio(tmp_path / "a.wav", np.zeros(1600, np.float32), 16_000)
    for count in (3, 4):
        (tmp_path / "joined.wav").write_bytes((tmp_path / "a.wav").read_bytes() * count)
        if count == 3:
            assert load_audio(tmp_path / "joined.wav").source_seconds == pytest.approx(0.3)
    with pytest.raises(AudioError, match="more than 3 files are joined"):
        load_audio(tmp_path / "joined.wav")
