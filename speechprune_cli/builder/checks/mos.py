"""Predicted mean opinion score, from 1 to 5: DNSMOS hears how natural and clean speech is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from speechprune_cli.builder.checks.base import Check, Measure
from speechprune_cli.builder.script import Script
from speechprune_cli.builder.speakers.base import onnx_session
from speechprune_cli.extras import need
from speechprune_cli.flow import SAMPLE_RATE


@dataclass(frozen=True)
class Mos(Check):
    """On pieces of 9 seconds, as it was trained, and their mean."""

    finds = frozenset({"p808", "overall"})

    def check(self) -> None:
        """The package, and what it imports without saying so."""
        for package in ("speechmos", "librosa"):
            need(package, "the check mos", "checks")

    def describe(self) -> str:
        """Which of its scores is the MOS."""
        return "DNSMOS P.808 by speechmos"

    def load(self) -> Measure:
        """The predictor on one thread."""
        from speechmos import dnsmos

        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        rating, overall = folder / "sig_bak_ovr.onnx", folder / "model_v8.onnx"
        predictor = dnsmos.DNSMOS(str(rating), str(overall))
        predictor.onnx_sess = onnx_session(rating)
        predictor.p808_onnx_sess = onnx_session(overall)
        length = int(dnsmos.INPUT_LENGTH * SAMPLE_RATE)

        def measure(samples: np.ndarray, rate: int, script: Script) -> dict[str, float]:
            sound = np.clip(soxr.resample(samples, rate, SAMPLE_RATE), -1, 1)
            count = max(1, len(sound) // length)
            pieces = [sound[length * n : length * (n + 1)] for n in range(count)]
            found = [predictor(piece, SAMPLE_RATE, False) for piece in pieces]
            return {
                name: round(float(np.mean([each[key] for each in found])), 3)
                for name, key in (("p808", "p808_mos"), ("overall", "ovrl_mos"))
            }

        return measure
