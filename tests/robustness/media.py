"""A short recording in every container and codec that can be written here."""

from __future__ import annotations

from pathlib import Path

import av
import soundfile
from recordings import voice, write_tracks

SECONDS = 1.5
WITH_FFMPEG = """
wav pcm_s16le 16000 1, wav pcm_f32le 44100 2, wav pcm_u8 8000 1, wav pcm_s24le 48000 2,
wav pcm_mulaw 8000 1, wav adpcm_ms 22050 1, wav adpcm_ima_wav 22050 2, wav libmp3lame 44100 1,
w64 pcm_s16le 16000 1, flac flac 16000 1, ogg libopus 48000 1, oga flac 16000 2,
opus libopus 48000 2, mp3 libmp3lame 22050 1, mp2 mp2 16000 1, m4a aac 16000 1, m4a alac 16000 1,
mp4 aac 44100 2, mov pcm_s16be 16000 1, 3gp aac 16000 1, 3gp amr_nb 8000 1, mkv libopus 48000 1,
mkv pcm_s16le 16000 1, webm libopus 48000 1, mka flac 16000 1, ts aac 16000 1, ts mp2 16000 1,
aac aac 16000 1, latm aac 16000 1, avi libmp3lame 16000 1, avi pcm_s16le 16000 1,
aiff pcm_s16be 16000 1, au pcm_s16be 16000 1, caf pcm_s16le 16000 1, caf alac 16000 1,
flv libmp3lame 22050 1, flv aac 16000 1, ac3 ac3 32000 1, eac3 eac3 32000 1, tta tta 16000 1,
wv wavpack 16000 1, nut pcm_s16le 16000 1, mpg mp2 44100 1, vob ac3 48000 1, voc pcm_u8 16000 1,
rm ac3 32000 1, amr libopencore_amrnb 8000 1, g722 g722 16000 1, sox pcm_s32le 16000 1,
sf pcm_s16le 16000 1, mmf adpcm_yamaha 8000 1, ast pcm_s16be_planar 16000 1, gxf pcm_s16le 48000 1,
swf libmp3lame 22050 1, aptx aptx 48000 2, wtv mp2 44100 1, rso pcm_u8 16000 1,
apm adpcm_ima_apm 22050 1, roq roq_dpcm 22050 1, isma aac 16000 1, f4v aac 16000 1
"""
OPTIONS = {"rf64": {"rf64": "always"}, "fragments": {"movflags": "frag_keyframe+empty_moov"}}
WITH_SNDFILE = (
    *("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "AIFF", "AU", "CAF", "VOC", "NIST"),
    *("IRCAM", "SVX", "PAF", "PVF", "MP3"),
)


def every_container(folder: Path) -> dict[str, bytes]:
    """By name and extension: all that this machine's libraries write, each of 1.5 s."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, bytes] = {}
    for line in WITH_FFMPEG.split(","):
        suffix, codec, rate, channels = line.split()
        wave = voice(SECONDS, int(rate), int(channels))
        if codec in av.codecs_available:
            path = write_tracks(folder / f"{codec}.{suffix}", [wave], int(rate), codec)
            found[path.name] = path.read_bytes()
    for name, codec, suffix in (("rf64", "pcm_s16le", "wav"), ("fragments", "aac", "mp4")):
        path, wave = folder / f"{name}.{suffix}", voice(SECONDS, 16000)
        found[path.name] = write_tracks(path, [wave], 16000, codec, **OPTIONS[name]).read_bytes()
    for kind in WITH_SNDFILE:
        path = folder / f"sndfile.{kind.lower()}"
        soundfile.write(path, voice(SECONDS, 16000), 16000, format=kind)
        found[path.name] = path.read_bytes()
    film = folder / "film.mp4"
    film.write_bytes(b"")
    write_tracks(film, [voice(SECONDS, 16000)] * 2, 16000, "aac", film=SECONDS)
    return {**found, "film.mp4": film.read_bytes()}
