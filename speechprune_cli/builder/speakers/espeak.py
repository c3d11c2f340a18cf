"""espeak-ng, robotic but tiny: `pip install 'speechprune[espeak]'` (GPL-3)."""

from __future__ import annotations

import ctypes
import shutil
from _ctypes import dlclose
from dataclasses import dataclass
from importlib.metadata import version
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from speechprune_cli.builder.speakers.base import Speaker, Synthesizer, Voice
from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.extras import need

ACCENTS = ("en-us", "en-gb-x-rp")
VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7")
SYNCHRONOUS = 2
UTF8 = 1
RATE = 1  # of espeak's parameters, the words per minute
WORDS_PER_MINUTE = 165
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Espeak(Speaker):
    """Formant synthesis: small, fast, and easy to tell from people; not on Windows."""

    licence = "espeak-ng is under GPL-3; what it speaks is not"

    def check(self) -> None:
        """The library in a package of its own."""
        need("espeakng_loader", "--speaker espeak", "espeak")

    def voices(self) -> tuple[Voice, ...]:
        """Its variants of two accents."""
        names = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
        return tuple(Voice(name, "f" if "+f" in name else "m") for name in names)

    def load(self) -> Synthesizer:
        """Raises SpeechPruneError where the library cannot be used here."""
        return EspeakSynthesizer(tuple(voice.name for voice in self.voices()))

    def sources(self) -> dict[str, str]:
        """The package."""
        return {"espeakng-loader": version("espeakng-loader")}


class EspeakSynthesizer:
    """The library, by its C interface (speak_lib.h)."""

    def __init__(self, voices: tuple[str, ...]) -> None:
        import espeakng_loader

        self.voices = voices
        self.rate = 0
        self._pieces: list[bytes] = []
        self._callback = CALLBACK(self._take)  # must outlive every call
        self._data = espeakng_loader.get_data_path().encode()
        self._own = TemporaryDirectory()
        self._library: Any = None
        try:
            self._path = shutil.copy(espeakng_loader.get_library_path(), self._own.name)
        except OSError as error:
            raise SpeechPruneError(f"espeak-ng cannot be copied: {error.strerror}") from error
        self.reseed(0)

    def reseed(self, seed: int) -> None:
        """Its flutter goes on from sentence to sentence and cannot be set back: load it anew."""
        if self._library is not None:
            self._library.espeak_Terminate()
            dlclose(self._library._handle)
        try:
            self._library = ctypes.CDLL(self._path)
        except OSError as error:
            raise SpeechPruneError(f"espeak-ng cannot be loaded: {error}") from error
        self.rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, self._data, 0)
        if self.rate <= 0:
            data = self._data.decode()
            raise SpeechPruneError(f"espeak-ng does not start: its data is not in {data}")
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """One sentence, whole before it is given back."""
        self._pieces.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SpeechPruneError(f"espeak-ng has no voice {voice}")
        self._library.espeak_SetParameter(RATE, round(WORDS_PER_MINUTE * speed), 0)
        said = text.encode()
        self._library.espeak_Synth(said, len(said) + 1, 0, 1, 0, UTF8, None, None)
        samples = np.frombuffer(b"".join(self._pieces), np.int16)
        if not len(samples):
            raise SpeechPruneError(f"espeak-ng could not speak {text!r} with {voice}")
        return (samples / 32768).astype(np.float32), self.rate

    def _take(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0
