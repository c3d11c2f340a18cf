"""Recordings to test with, made on the spot by real encoders."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr
from av.stream import Disposition


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


def wav_bytes(
    data: bytes, channels: int = 1, stated: int | None = None, rate: int = 16000
) -> bytes:
    """A 16-bit wav whose header may lie about the length of `data`."""
    length = len(data) if stated is None else stated
    block = channels * 2
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * block, block, 16)
    riff = min(36 + length, 0xFFFFFFFF)
    return b"RIFF%sWAVEfmt %sdata%s%s" % (
        struct.pack("<I", riff),
        fmt,
        struct.pack("<I", length),
        data,
    )


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


def write_tracks(
    path: Path,
    waves: Sequence[np.ndarray],
    rate: int,
    codec: str,
    *,
    default: int | None = None,
    begin: float = 0.0,
    pause: tuple[float, float] = (0.0, 0.0),
    film: float = 0.0,
    **options: str,
) -> Path:
    """Audio tracks of any codec, the first marked as `default` unless another number is.

    All begin `begin` seconds late and pause, from the first of the seconds `pause` on, for the
    other; pictures run along for `film` seconds.
    """
    layout = {1: "mono", 2: "stereo"}[waves[0].shape[1]]
    with av.open(str(path), "w", options=options) as container:
        packets = pictures(container, film) if film else []
        tracks = [container.add_stream(codec, rate=rate, layout=layout) for _ in waves]
        for number, (track, wave) in enumerate(zip(tracks, waves, strict=True)):
            if default is not None:
                track.disposition = Disposition.default if number == default else Disposition(0)
            kind = track.codec_context.codec.audio_formats[0].name
            for start in range(0, len(wave), 1000):
                late = begin + (pause[1] if start >= pause[0] * rate else 0)
                frame = as_frame(wave[start : start + 1000], rate, layout, kind)
                frame.pts, frame.time_base = start + round(late * rate), Fraction(1, rate)
                packets += track.encode(frame)
            packets += track.encode(None)
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
            container.mux(packet)
    return path


def pictures(container: av.container.OutputContainer, seconds: float) -> list[av.Packet]:
    track = container.add_stream("mpeg4", rate=10)
    track.width = track.height = 32
    return [
        packet
        for _ in range(round(seconds * 10))
        for packet in track.encode(av.VideoFrame(32, 32, "yuv420p"))
    ] + track.encode(None)


def as_frame(wave: np.ndarray, rate: int, layout: str, kind: str) -> av.AudioFrame:
    planes = np.ascontiguousarray(wave.T)
    frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
    frame.sample_rate = rate
    (converted,) = av.AudioResampler(format=kind, layout=layout, rate=rate).resample(frame)
    return converted
