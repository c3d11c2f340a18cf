"""Transcripts kept on disk, so that nothing is recognised twice, and little is lost by a kill.

An entry is `<key>.json`, in the format of `files.py` with the SHA-256 of the rest as one more key.
While a recording is recognised, `<key>.partial` holds a line for every piece that is done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from speechprune_cli.atomic import PARTIAL, atomic
from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.escaping import json_text
from speechprune_cli.transcripts.journal import Journal
from speechprune_cli.transcripts.jsons import as_json, read_json
from speechprune_cli.transcripts.languages import language_code, language_name
from speechprune_cli.transcripts.piece import Piece, joined
from speechprune_cli.units import clock

if TYPE_CHECKING:
    import numpy as np

    from speechprune_cli.flow import Audio, Transcript

FORMAT = 3  # the next number makes all anew: whenever the same sound gives other words

log = logging.getLogger("speechprune")


class Recognises(Protocol):
    """What makes pieces of a recording, as `Recogniser` does."""

    revision: str

    @property
    def settings(self) -> Mapping[str, str | float]:
        """All beside weights and sound that the words depend on."""

    @property
    def origin(self) -> str:
        """Who writes the transcripts."""

    def transcribe(
        self,
        samples: np.ndarray,
        language: str | None,
        on_progress: Callable[[float], None],
        done: Sequence[Piece],
    ) -> Iterator[Piece]:
        """The pieces that follow those `done`."""


def transcribed(
    audio: Audio,
    recogniser: Recognises,
    language: str | None = None,
    folder: Path | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Transcript:
    """A recording's transcript, from `folder` or made and kept there; None keeps nothing.

    `on_progress` is told how many of the recording's seconds are done. A killed run is gone on
    with, which is logged, and so is an interrupt. Trouble with the disk costs time, never the
    answer: it is logged as a warning, as is a language that the recogniser does not know.
    Raises UsageError for one that no Whisper knows, ModelError where Whisper cannot be run.
    """
    code = language_code(language) if language else None
    transcript = _found(audio, recogniser, code, folder, on_progress)
    if code and transcript.language not in (None, code):
        names = language_name(transcript.language or ""), language_name(code)
        log.warning("%s writes %s, not %s: its words will be wrong", recogniser.revision, *names)
    return transcript


def _found(
    audio: Audio,
    recogniser: Recognises,
    code: str | None,
    folder: Path | None,
    on_progress: Callable[[float], None],
) -> Transcript:
    """From the folder, or made and put there."""
    entry = folder and entry_of(audio, recogniser, code, folder)
    if entry is None:
        return _made(audio, recogniser, code, on_progress, Journal(None))
    kept = _kept(entry)  # which needs neither the lock nor its library
    if kept is None:
        with _held(entry) as writable:
            _sweep(entry)
            kept = _kept(entry, log.debug)  # its trouble was told
            if kept is None:
                with Journal(entry.with_suffix(".partial") if writable else None) as journal:
                    transcript = _made(audio, recogniser, code, on_progress, journal)
                    if journal.kept and keep(entry, transcript):
                        journal.remove()
                return transcript
    for left in (entry.with_suffix(".partial"), _lock_of(entry)):  # by a kill once it was there
        with suppress(OSError):
            left.unlink()
    on_progress(audio.seconds)
    return replace(kept, kept=True)


def _sweep(entry: Path) -> None:
    """Remove what kills left of `atomic` beside the entry, which this process holds."""
    with suppress(OSError):
        for path in entry.parent.glob(f".{entry.stem}.*"):
            if PARTIAL.fullmatch(path.name):
                path.unlink()


def _made(
    audio: Audio,
    recogniser: Recognises,
    language: str | None,
    on_progress: Callable[[float], None],
    journal: Journal,
) -> Transcript:
    """The pieces that the journal does not have are added to it."""
    done, begun = tuple(journal.pieces), time.perf_counter()
    if done:
        log.info("%s: recognising goes on at %s", audio.source, clock(done[-1].seconds))
        on_progress(done[-1].seconds)
    with _comforted(journal):
        for piece in recogniser.transcribe(audio.samples, language, on_progress, done):
            journal.add(piece)
    transcript = joined(journal.pieces, recogniser.origin)
    return replace(transcript, seconds=time.perf_counter() - begun)


@contextmanager
def _comforted(journal: Journal) -> Iterator[None]:
    """Whoever interrupts is told what that does not cost."""
    try:
        yield
    except KeyboardInterrupt:
        if journal.kept and journal.pieces:
            reached = clock(journal.pieces[-1].seconds)
            log.warning(
                "interrupted: what was recognised up to %s is kept, the same command goes on there",
                reached,
            )
        raise


def entry_of(audio: Audio, recogniser: Recognises, language: str | None, folder: Path) -> Path:
    """Where the transcript is kept: its name says all that it depends on."""
    fields = {"format": FORMAT, "audio": audio.sha256, "revision": recogniser.revision}
    fields |= {"settings": dict(recogniser.settings), "language": language}
    return folder / f"{_digest(fields)}.json"


def _lock_of(entry: Path) -> Path:
    return entry.with_name(f".{entry.stem}.lock")


@contextmanager
def _held(entry: Path) -> Iterator[bool]:
    """One process at a time makes an entry; the others wait, and find it there.

    False where nothing can be written.
    """
    from filelock import FileLock

    lock = FileLock(_lock_of(entry))
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        log.warning("transcripts: nothing can be kept in %s (%s)", entry.parent, error)
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):  # who waits for it looks for the entry first
            Path(lock.lock_file).unlink()
        lock.release()


def _kept(entry: Path, tell: Callable[..., None] = log.warning) -> Transcript | None:
    """None where there is nothing, or nothing sound, which is told."""
    try:
        return _read(entry)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        tell("transcripts: cannot read %s (%s)", entry, error)
    except (ValueError, TypeError, AttributeError, KeyError, SpeechPruneError) as error:
        tell("transcripts: removed the damaged %s (%s)", entry, error)
        with suppress(OSError):
            entry.unlink()
    return None


def _read(entry: Path) -> Transcript:
    text = entry.read_text(encoding="utf-8")
    content = json.loads(text)
    if content.pop("sha256") != _digest(content):
        raise ValueError("its content is not what its checksum says")
    return read_json(text, str(entry), content["origin"])


def keep(entry: Path, transcript: Transcript) -> bool:
    """Put a transcript where it will be found, and say whether that went well."""
    content = as_json(transcript)
    try:
        with atomic(entry) as temporary:
            text = json_text({**content, "sha256": _digest(content)}, indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")
    except SpeechPruneError as error:
        log.warning("transcripts: not kept (%s)", error)
        return False
    return True


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
