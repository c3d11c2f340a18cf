"""Speech recognised by Whisper, through faster-whisper."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speechprune_cli.errors import ModelError, OutOfMemoryError, one_line
from speechprune_cli.extras import need
from speechprune_cli.flow import SAMPLE_RATE, Word
from speechprune_cli.transcripts.languages import language_code
from speechprune_cli.transcripts.piece import Piece
from speechprune_cli.transcripts.timing import in_order
from speechprune_cli.transcripts.voice import Window, next_block

if TYPE_CHECKING:
    from faster_whisper import BatchedInferencePipeline, WhisperModel
    from faster_whisper.transcribe import Segment

FILES = ("config.json", "tokenizer.json", "model.bin")  # without which nothing can be recognised
BATCH = 4  # windows decoded at once: 8 and 16 are no faster on two cores
FAST = {"beam_size": 1}  # greedy: a beam of 5 takes half as long again, with no fewer errors
CAREFUL = {"beam_size": 5, "no_repeat_ngram_size": 6}  # for what went wrong: nothing is drawn
LOG_PROB = -1.0  # Whisper's own limits: how likely words have to be (mean of their tokens),
COMPRESSION = 2.4  # and how repetitive a loop is
LANGUAGE_WINDOWS = 4  # of speech, that the language is told from
LANGUAGE_SURE = 0.8  # one window is enough from here on


class Recogniser:
    """A Whisper model in CTranslate2's format, loaded when it is needed first.

    `revision` names the weights, wherever they lie. On a CPU they are held as int8, on CUDA as
    float16. Raises ModelError where the folder holds no such model, UsageError where
    faster-whisper is missing.
    """

    def __init__(
        self, folder: Path, revision: str, device: str = "cpu", threads: int | None = None
    ) -> None:
        need("faster_whisper", "recognising speech", "mini")
        self.folder = folder
        self.revision = revision
        self.device = "cuda" if device.startswith("cuda") else "cpu"
        self.index = int(device.partition(":")[2] or 0)
        self.threads = threads
        _check_folder(folder)

    @property
    def settings(self) -> dict[str, str | float]:
        """All beside weights and sound that the words depend on."""
        return {
            "library": f"faster-whisper {version('faster-whisper')}",
            "type": "float16" if self.device == "cuda" else "int8",
            "beam": FAST["beam_size"],
        }

    @property
    def origin(self) -> str:
        """Who writes the transcripts."""
        settings = self.settings
        return f"Whisper {self.revision} ({settings['type']}) by {settings['library']}"

    @property
    def multilingual(self) -> bool:
        """False for English-only Whispers (`base.en`)."""
        return bool(self._model.model.is_multilingual)

    def transcribe(
        self,
        samples: np.ndarray,
        language: str | None = None,
        on_progress: Callable[[float], None] = lambda _: None,
        done: Sequence[Piece] = (),
    ) -> Iterator[Piece]:
        """The pieces of a recording that follow those `done`, in order.

        `samples` are float32 `[T]` at 16 kHz. The language is a code or a name; None: as the first
        speech sounds. An English-only model writes English. `on_progress` is told how many seconds
        of the recording are done. A run that goes on where another one stopped finds what one run
        would have found.
        """
        code = language_code(language) if language else None
        last = done[-1] if done else Piece(0, 0, language=code if self.multilingual else "en")
        while last.end < len(samples):
            last = self._piece(samples, last)
            on_progress(last.seconds)
            yield last

    def _piece(self, samples: np.ndarray, last: Piece) -> Piece:
        windows, end = next_block(samples, last.end)
        language, sure = last.language, last.sure
        with _explained(self.folder):
            if windows and language is None:
                language, sure = self._heard_language(windows, samples)
            heard = self._heard(windows, samples, language)
        words = tuple(in_order(word for each in heard if each.trusted for word in each.words))
        dropped = tuple(each.window.times for each in heard if not each.trusted)
        if not words:  # what sounded like a language was none
            language, sure = last.language, last.sure
        return Piece(last.end, end, words, dropped, language, sure)

    def _heard_language(self, windows: Sequence[Window], samples: np.ndarray) -> tuple[str, float]:
        sound = np.concatenate([window.cut(samples) for window in windows[:LANGUAGE_WINDOWS]])
        code, sure, _ = self._model.detect_language(
            sound,
            language_detection_segments=LANGUAGE_WINDOWS,
            language_detection_threshold=LANGUAGE_SURE,
        )
        return code, round(float(sure), 3)

    @cached_property
    def _model(self) -> WhisperModel:
        from faster_whisper import WhisperModel

        with _explained(self.folder):
            model = WhisperModel(
                str(self.folder),
                device=self.device,
                device_index=self.index,
                compute_type=str(self.settings["type"]),
                cpu_threads=self.threads or 0,
            )
        if model.feature_extractor.mel_filters.shape[0] != model.model.n_mels:
            raise ModelError(f"{self.folder}: preprocessor_config.json is missing, or another's")
        return model

    @cached_property
    def _batches(self) -> BatchedInferencePipeline:
        from faster_whisper import BatchedInferencePipeline

        return BatchedInferencePipeline(self._model)

    def _heard(
        self, windows: Sequence[Window], samples: np.ndarray, language: str | None
    ) -> list[Heard]:
        """What each window says; those that went wrong are tried once more, with care."""
        first = self._decoded(windows, samples, language, FAST)
        return [
            each
            if each.trusted and not each.repetitive
            else self._decoded([each.window], samples, language, CAREFUL)[0]
            for each in first
        ]

    def _decoded(
        self,
        windows: Sequence[Window],
        samples: np.ndarray,
        language: str | None,
        search: Mapping[str, int],
    ) -> list[Heard]:
        if not windows:
            return []
        sounds = [window.cut(samples) for window in windows]
        ends = (np.cumsum([len(sound) for sound in sounds]) / SAMPLE_RATE).tolist()
        starts = [0.0, *ends[:-1]]
        segments, _ = self._batches.transcribe(
            np.concatenate(sounds),
            language=language,
            clip_timestamps=[
                {"start": start, "end": end} for start, end in zip(starts, ends, strict=True)
            ],
            batch_size=BATCH,
            word_timestamps=True,
            **search,
        )
        found = zip(windows, starts, segments, strict=True)
        return [Heard.of(window, start, segment) for window, start, segment in found]


@dataclass(frozen=True)
class Heard:
    """What a window says, and whether Whisper's own numbers speak for it."""

    window: Window
    words: tuple[Word, ...]
    trusted: bool
    repetitive: bool

    @classmethod
    def of(cls, window: Window, offset: float, segment: Segment) -> Heard:
        """From a segment that begins `offset` seconds before its words' times count."""
        words = (
            window.placed(word.word, word.start - offset, word.end - offset)
            for word in segment.words or ()
        )
        likely = segment.avg_logprob > LOG_PROB
        return cls(window, tuple(words), likely, segment.compression_ratio > COMPRESSION)


def _check_folder(folder: Path) -> None:
    """Without its tokenizer, faster-whisper would ask the network."""
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ModelError(f"{folder}: no Whisper for faster-whisper: it holds no {missing[0]}")
    for name in FILES[:2]:
        try:
            json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder / name}: damaged: {one_line(error)}") from error


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """CTranslate2 raises these for whatever goes wrong."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        kind = OutOfMemoryError if "out of memory" in str(error) else ModelError
        raise kind(f"{folder}: Whisper cannot be run: {one_line(error)}") from error
