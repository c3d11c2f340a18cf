"""Encoded speech: utterances packed into 30 s windows, through the frozen encoder, cut apart again.

Recordings for training are spliced from these pieces, so that an utterance is encoded once (or once
per variation) and used in many recordings. Packing gives each piece neighbours, as in real windows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import soundfile
import soxr
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.signal import fftconvolve
from torch import Tensor
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.training.text import normalise

TOKEN = SAMPLE_RATE // 25
WINDOW = 30 * SAMPLE_RATE
BATCH = 4


@dataclass(frozen=True)
class Sound:
    """A spoken sentence to encode."""

    samples: np.ndarray
    text: str
    voice: str
    fact: dict | None


@dataclass(frozen=True)
class Piece:
    """An encoded sentence with the silence that follows it."""

    features: Tensor
    """float16 `[T, encoder width]`, 25 per second."""
    text: str
    """Normalised."""
    voice: str
    fact: dict | None
    labels: Tensor | None = None
    """int16 `[T]`: the text token said at each audio token, see `align`."""


def vary(samples: np.ndarray, rng: Random, *, voice: bool = False) -> np.ndarray:
    """Loudness, noise and reverberation; with `voice` also another pitch and tempo."""
    if voice:
        samples = soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE * rng.uniform(0.84, 1.2))
    samples = samples * (10 ** rng.uniform(-1.4, -0.7) / (np.sqrt(np.mean(samples**2)) + 1e-6))
    noise = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.25:
        decay = np.exp(-np.arange(SAMPLE_RATE // 4) / (SAMPLE_RATE * rng.uniform(0.02, 0.07)))
        room = noise.standard_normal(len(decay)) * decay * rng.uniform(0.01, 0.06)
        room[0] = 1
        samples = fftconvolve(samples, room)[: len(samples)]
    if rng.random() < 0.4:
        loudness = np.sqrt(np.mean(samples**2)) * 10 ** (-rng.uniform(12, 40) / 20)
        samples = samples + noise.standard_normal(len(samples)) * loudness
    return samples.astype(np.float32)


def encode(sounds: Iterable[Sound], tower: Qwen2AudioEncoder, rng: Random) -> Iterator[Piece]:
    """Encode each sound once."""
    extractor = WhisperFeatureExtractor()
    windows: list[tuple[np.ndarray, list[tuple[int, int, Sound]]]] = []
    for window in pack(sounds, rng):
        windows.append(window)
        if len(windows) == BATCH:
            yield from _encode_windows(windows, tower, extractor)
            windows = []
    if windows:
        yield from _encode_windows(windows, tower, extractor)


def pack(
    sounds: Iterable[Sound], rng: Random
) -> Iterator[tuple[np.ndarray, list[tuple[int, int, Sound]]]]:
    """30 s windows of samples, and the sounds in each with their first and last audio token."""
    samples = np.zeros(WINDOW, np.float32)
    spans: list[tuple[int, int, Sound]] = []
    position = rng.randint(0, 12)
    for sound in sounds:
        length, gap = -(-len(sound.samples) // TOKEN), rng.randint(2, 15)
        if position + length > 750:
            yield samples, spans
            samples, spans, position = np.zeros(WINDOW, np.float32), [], rng.randint(0, 12)
        start = position * TOKEN
        room = samples[start : start + len(sound.samples)]
        room[:] = sound.samples[: len(room)]
        end = min(750, position + length + rng.randint(1, gap))
        spans.append((position, end, sound))
        position += length + gap
    if spans:
        yield samples, spans


@torch.inference_mode()
def _encode_windows(windows, tower, extractor) -> Iterator[Piece]:
    mel = extractor(
        [samples for samples, _ in windows], sampling_rate=SAMPLE_RATE, return_tensors="pt"
    ).input_features
    with torch.autocast("cpu", torch.bfloat16):
        hidden = tower(mel.to(next(tower.parameters()).device)).last_hidden_state
    for (_, spans), features in zip(windows, hidden.half().cpu(), strict=True):
        for start, end, sound in spans:
            yield Piece(features[start:end].clone(), normalise(sound.text), sound.voice, sound.fact)


def save_pieces(path: Path, pieces: Iterable[Piece]) -> None:
    """One safetensors file: features `[T, width]` and labels `[T]` in a row, words as metadata."""
    rows = list(pieces)
    words = [
        {"tokens": len(p.features), "text": p.text, "voice": p.voice, "fact": p.fact} for p in rows
    ]
    tensors = {"features": torch.cat([piece.features for piece in rows])}
    labels = [piece.labels for piece in rows if piece.labels is not None]
    if labels:
        tensors["labels"] = torch.cat(labels)
    partial = path.with_suffix(".part")
    save_file(tensors, partial, metadata={"pieces": json.dumps(words)})
    partial.replace(path)


def load_pieces(path: Path) -> list[Piece]:
    """What `save_pieces` wrote."""
    with safe_open(path, "pt") as file:
        words = json.loads(file.metadata()["pieces"])
        lengths = [row.pop("tokens") for row in words]
        features = file.get_tensor("features").split(lengths)
        labelled = "labels" in file.keys()  # noqa: SIM118 - the file is no mapping
        labels = file.get_tensor("labels").split(lengths) if labelled else [None] * len(words)
    return [
        Piece(part, labels=said, **row)
        for part, said, row in zip(features, labels, words, strict=True)
    ]


def spoken_pool(folder: Path) -> Iterator[Sound]:
    """Sentences that `speak` has finished."""
    for path in sorted(folder.glob("*.flac")):
        said = json.loads(path.with_suffix(".json").read_text("utf-8"))
        samples, _ = soundfile.read(path, dtype="float32")
        yield Sound(samples, said["text"], said["voice"], said["fact"])


def transcribed(index: Path) -> Iterator[Sound]:
    """Recordings listed in a CSV beside them: `file`, a text column, a voice or speaker column."""
    with index.open(newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            samples, rate = soundfile.read(index.parent / row["file"], dtype="float32")
            text = row.get("text") or row["pseudo_transcript"]
            voice = row.get("voice") or row["speaker"]
            yield Sound(soxr.resample(samples, rate, SAMPLE_RATE), text, voice, None)
