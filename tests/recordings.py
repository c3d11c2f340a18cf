"""Recordings to test with, made on the spot by real encoders."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import soxr


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
