"""Kokoro-82M, 28 English voices (Apache-2.0): `--fetch-voices` gets its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from speechprune_cli.builder.speakers import base
from speechprune_cli.builder.speakers._kokoro_files import MODEL, VOICES, fetch_kokoro
from speechprune_cli.builder.speakers.base import OnProgress, Speaker, Synthesizer, Voice
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.extras import need
from speechprune_cli.folders import cache_folder

HELD_OUT = ("af_nova", "af_river", "am_liam", "am_puck", "bf_lily", "bm_fable")
"""Voices that no training of nano may use."""
ATTEMPTS = 3


@dataclass(frozen=True)
class Kokoro(Speaker):
    """`voices_folder` holds `kokoro.onnx` and a `<voice>.bin` each."""

    voices_folder: str = ""
    held_out: bool = False  # only the voices that nano has never heard

    licence = "Kokoro-82M and its voices are under Apache-2.0"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        chosen = self.voices_folder
        return Path(chosen).expanduser() if chosen else cache_folder("kokoro")

    def fetch(self, on_progress: OnProgress) -> Path:
        """Its model and voices, 328 MB."""
        fetch_kokoro(self.folder, on_progress)
        return self.folder

    def check(self) -> None:
        """Its model, some voices and the package that spells words as sounds."""
        need("kokoro_onnx", "--speaker kokoro", "build")
        cure = "get them with speechprune build --fetch-voices (328 MB), or name their --voices"
        if not (self.folder / MODEL).is_file():
            raise UsageError(f"{self.folder}: holds no {MODEL}: {cure}")
        if not self.voices():
            raise UsageError(f"{self.folder}: holds no voices (such as af_heart.bin): {cure}")

    def voices(self) -> tuple[Voice, ...]:
        """Named as its authors do: `af_heart` is American, female."""
        names = sorted(path.stem for path in self.folder.glob(VOICES))
        allowed = [name for name in names if name in HELD_OUT or not self.held_out]
        return tuple(Voice(name, "f" if name[1] == "f" else "m") for name in allowed)

    def load(self) -> Synthesizer:
        """Raises UsageError where a file is not what it should be."""
        return KokoroSynthesizer(self.folder / MODEL, self.folder)

    def sources(self) -> dict[str, str]:
        """The model and the voices."""
        used = {voice.name for voice in self.voices()}
        styles = [path for path in sorted(self.folder.glob(VOICES)) if path.stem in used]
        return {MODEL: base.sha256([self.folder / MODEL]), "voices": base.sha256(styles)}


class KokoroSynthesizer:
    """The loaded model with its English voices (files `<voice>.bin`, float32 `[-1, 1, 256]`)."""

    def __init__(self, model: Path, voices: Path) -> None:
        from kokoro_onnx import Kokoro as KokoroOnnx

        self.styles = {path.stem: _style(path) for path in sorted(voices.glob(VOICES))}
        if not self.styles:
            raise UsageError(f"{voices}: holds no Kokoro voices (files such as af_heart.bin)")
        self.voices: tuple[str, ...] = tuple(self.styles)
        self._packed = TemporaryDirectory()  # the package reads voices from one file
        packed = Path(self._packed.name) / "voices.npz"
        np.savez(packed, allow_pickle=False, **self.styles)
        self.engine = KokoroOnnx.from_session(base.onnx_session(model), str(packed))

    def reseed(self, seed: int) -> None:
        """Nothing in it is drawn at random."""

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """Speak; some sentences come out as NaN in half precision, so try again at other speeds."""
        for attempt in range(ATTEMPTS):
            samples, rate = self.engine.create(text, voice=voice, speed=speed + 0.02 * attempt)
            if np.isfinite(samples).all():
                return samples.astype(np.float32), rate
        raise SpeechPruneError(f"Kokoro could not speak {text!r} with {voice}")


def _style(path: Path) -> np.ndarray:
    values = np.fromfile(path, np.float32)
    if not len(values) or len(values) % 256:
        raise UsageError(f"{path}: not a voice of Kokoro's: {len(values)} numbers")
    return values.reshape(-1, 1, 256)
