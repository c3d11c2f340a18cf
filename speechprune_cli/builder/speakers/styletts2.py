"""StyleTTS 2 with the paper's parameters, where the package `styletts2` is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from speechprune_cli.builder.speakers.base import Speaker, Synthesizer, Voice, sha256
from speechprune_cli.errors import UsageError

RATE = 24_000


@dataclass(frozen=True)
class StyleTTS2(Speaker):
    """`voices_folder` holds a short wav of each voice, such as `8975_F.wav` of LibriTTS.

    Written against version 0.1.6. It loads pickled weights, so that it is only as safe as they are.
    """

    voices_folder: str = ""
    alpha: float = 0.3  # how much of the timbre comes from the text, not from the voice
    beta: float = 0.7  # the same of the prosody
    diffusion_steps: int = 10
    embedding_scale: float = 1.0

    licence = "StyleTTS 2 is under MIT; see the licence of its weights and of the voices"

    def check(self) -> None:
        """The package and some voices."""
        if find_spec("styletts2") is None:
            raise UsageError(
                "--speaker styletts2: not installed; pip install styletts2 into an environment "
                "of its own (it pins old packages), or take --speaker kokoro"
            )
        if not self.voices():
            raise UsageError("--speaker styletts2 needs --voices FOLDER with a wav of each voice")

    def voices(self) -> tuple[Voice, ...]:
        """A name that ends in _F or _M tells the gender."""
        if not self.voices_folder:
            return ()
        genders: dict[str, Literal["f", "m"]] = {"_F": "f", "_M": "m"}
        names = sorted(path.stem for path in Path(self.voices_folder).glob("*.wav"))
        return tuple(Voice(name, genders.get(name[-2:], "?")) for name in names)

    def load(self) -> Synthesizer:
        """Its weights come from the model hub when they are first asked for."""
        return StyleTTS2Synthesizer(self)

    def sources(self) -> dict[str, str]:
        """The package and the voices."""
        wavs = [Path(self.voices_folder) / f"{voice.name}.wav" for voice in self.voices()]
        return {"styletts2": version("styletts2"), "voices": sha256(wavs)}


class StyleTTS2Synthesizer:
    """The loaded model; a voice's style is computed once."""

    def __init__(self, settings: StyleTTS2) -> None:
        from styletts2.tts import StyleTTS2 as Model

        self.settings = settings
        self.voices: tuple[str, ...] = tuple(voice.name for voice in settings.voices())
        self.engine: Any = Model()
        self.styles: dict[str, Any] = {}

    def reseed(self, seed: int) -> None:
        """Diffusion draws from torch."""
        import torch

        torch.manual_seed(seed)

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """It has no speed of its own choosing: `speed` is left to the style."""
        if voice not in self.styles:
            path = Path(self.settings.voices_folder) / f"{voice}.wav"
            self.styles[voice] = self.engine.compute_style(str(path))
        samples = self.engine.inference(
            text,
            ref_s=self.styles[voice],
            output_sample_rate=RATE,
            alpha=self.settings.alpha,
            beta=self.settings.beta,
            diffusion_steps=self.settings.diffusion_steps,
            embedding_scale=self.settings.embedding_scale,
        )
        return np.asarray(samples, np.float32), RATE
