"""Speech synthesis: text in, float32 samples out, by voices named `engine/voice`.

`kokoro` (Apache-2.0) needs its ONNX file and voices, `piper` (a tool under GPL-3, used at build
time only) a voice's ONNX file. Neither is needed to answer questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime

from speechprune_cli.errors import UsageError

KOKORO_HELD_OUT = ("af_nova", "af_river", "am_liam", "am_puck", "bf_lily", "bm_fable")
"""Voices that no training of ours may use."""
ATTEMPTS = 3


class Synthesizer(Protocol):
    """A loaded speech synthesizer."""

    voices: tuple[str, ...]

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """Samples `[T]` and their rate."""


class Kokoro:
    """Kokoro-82M with its English voices (files `<voice>.bin`, float32 `[-1, 1, 256]`)."""

    def __init__(self, model: Path, voices: Path, threads: int = 1) -> None:
        from kokoro_onnx import Kokoro as KokoroOnnx

        self.styles = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, 1, 256)
            for path in sorted(voices.glob("[ab][fm]_*.bin"))
        }
        if not self.styles:
            raise UsageError(f"{voices}: holds no Kokoro voices (files such as af_heart.bin)")
        self.voices: tuple[str, ...] = tuple(self.styles)
        packed = voices / "voices.npz"
        if not packed.exists():
            np.savez(packed, allow_pickle=False, **self.styles)
        self.engine = KokoroOnnx.from_session(_session(model, threads), str(packed))

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """Speak; some sentences come out as NaN in half precision, so try again at other speeds."""
        for attempt in range(ATTEMPTS):
            samples, rate = self.engine.create(text, voice=voice, speed=speed + 0.02 * attempt)
            if np.isfinite(samples).all():
                return samples.astype(np.float32), rate
        raise UsageError(f"Kokoro could not speak {text!r} with {voice}")


class Piper:
    """One Piper voice."""

    def __init__(self, model: Path, threads: int = 1) -> None:
        from piper import PiperVoice

        self.voices: tuple[str, ...] = (model.stem,)
        self.engine = PiperVoice.load(model)
        self.engine.session = _session(model, threads)

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """Speak with the model's own variation of pitch and rhythm."""
        from piper import SynthesisConfig

        how = SynthesisConfig(length_scale=1 / speed)
        chunks = list(self.engine.synthesize(text, how))
        return np.concatenate([c.audio_float_array for c in chunks]), chunks[0].sample_rate


def _session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    if not model.exists():
        raise UsageError(f"{model}: no such model file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
