"""Word error rate: Whisper writes down what it hears, jiwer counts what differs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import soxr

from speechprune_cli.builder.checks.base import Check, Measure
from speechprune_cli.builder.script import Script
from speechprune_cli.config import Part
from speechprune_cli.errors import ModelError, UsageError, one_line
from speechprune_cli.extras import need
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.weights.finding import recogniser_folder
from speechprune_cli.weights.stored import find, stored_folder

BASE = Part(source="stored:whisper-base")
BEAM = 1  # greedy: a beam of 5 takes twice as long


@dataclass(frozen=True)
class Wer(Check):
    """Text is normalised as OpenAI does before it is compared: numbers, spelling, hesitations."""

    finds = frozenset({"errors", "words"})

    asr: str = ""
    """A folder or a Hub name of a model for faster-whisper (`large-v3`); none: the stored base."""

    def check(self) -> None:
        """Three packages and a model."""
        for package in ("faster_whisper", "jiwer", "whisper_normalizer"):
            need(package, "the check wer", "checks")
        if not self.asr and find(stored_folder("whisper-base")) is None:
            raise UsageError(
                "the check wer needs a Whisper: speechprune models get whisper-base brings base, "
                "--set asr=large-v3 takes one from the Hub, --set asr=FOLDER one of yours"
            )

    def describe(self) -> str:
        """The model's name."""
        return f"Whisper {self.asr or 'base'} (int8, greedy) by faster-whisper"

    @cached_property
    def _model(self):
        from faster_whisper import WhisperModel
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        name = self.asr or str(recogniser_folder(BASE, offline=True)[0])
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
