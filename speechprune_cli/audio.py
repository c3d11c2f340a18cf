"""A recording in, whatever its format, rate or length; retained sound out.

FFmpeg's libraries (PyAV) decode all of it: one decoder, so that lengths agree everywhere.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from io import SEEK_END, BufferedReader, FileIO
from math import inf
from pathlib import Path
from tempfile import TemporaryFile

import av
import numpy as np
import soundfile

from speechprune_cli import units
from speechprune_cli.atomic import atomic
from speechprune_cli.decoder import BLOCK_FRAMES, SLACK, Block, Recording
from speechprune_cli.errors import AudioError, SpeechPruneError, TooLongError, UsageError
from speechprune_cli.flow import Audio
from speechprune_cli.mixdown import Mixdown
from speechprune_cli.sndfile import SoundFile
from speechprune_cli.stated import (
    Part,
    ends_early,
    is_nms_adpcm,
    is_plain_vorbis,
    joint,
    next_file,
    wav_seconds,
)

File = BufferedReader | FileIO
EXPLAINED = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"caff", b"fLaC", b"OggS")
"""What files begin with of which libsndfile can say what is wrong; of mp3 it prints that."""
MOST_PARTS = 10_000  # files that may be joined in one
WRITABLE = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


def load_audio(
    source: str | Path,
    track: int | None = None,
    longest: float = inf,
    check: Callable[[], None] = lambda: None,
) -> Audio:
    """Decode a recording (`-` is standard input), mix it down to mono and resample it to 16 kHz.

    All that FFmpeg's libraries can read is read, also behind a change of rate or channels and of
    files that were joined; where the recording pauses or begins late, there is silence, so that
    times are its own. Of several audio tracks the default one is read, or that of number `track`,
    counted from 1. Channels are averaged, or the loudest is taken where they cancel each other.
    `n` frames at `rate` become exactly `round(n * 16000 / rate)` samples. Memory beyond the
    samples does not grow with the length, which is at most `longest` seconds. `check` is called
    between blocks: what it raises ends decoding.

    Raises AudioError, one line that names the file and what was found in it, where it is missing,
    a folder, empty, not audio, without samples, or holds NaN, infinite or absurdly large samples;
    UsageError where there is no such track, TooLongError. What is truncated, damaged, silent, very
    short or the sound of a film is decoded, with a line in `Audio.warnings`, as is one of several
    tracks.
    """
    name = str(source)
    label = label_of(name)
    sound, found = Mixdown(label), _Findings()
    try:
        with _open(name, label) as file:
            for part in _parts(file, label, track, found):
                check()
                begin = float(sound.seconds)
                sound.add(_within(longest, part.blocks(), begin, label, check))
                found.add(part, begin)
            sha256 = _digest(file, found)
    except OSError as error:
        raise AudioError(f"{label}: cannot be read: {error.strerror or error}") from error
    samples = sound.samples()
    if not len(samples):
        others = f" in track {found.number} of {found.tracks}" if found.tracks > 1 else ""
        raise AudioError(f"{label}: holds no samples{others}")
    lines = [*found.lines(float(sound.seconds), track), *sound.doubts(samples)]
    return Audio(
        samples=samples,
        source=name,
        sha256=sha256,
        source_rate=sound.source_rate,
        channels=sound.channels,
        source_seconds=float(sound.seconds),
        warnings=tuple(f"{label}: {line}" for line in lines),
    )


def label_of(name: str) -> str:
    """What messages call a recording."""
    return "standard input" if name == "-" else name


def recording_seconds(path: str | Path) -> float:
    """Length of a recording as `load_audio` reads it, but for a codec's padding; not decoded.

    From its header where that can be trusted, else from its packets. Infinite where it cannot be
    read.
    """
    length = 0.0
    try:
        with _open(str(path), str(path)) as file:
            if seconds := wav_seconds(Part(file)):
                return round(seconds, 6)
            for part in _parts(file, str(path), None, _Findings()):
                length += part.seconds()
    except (OSError, AudioError):
        return inf
    return round(length, 6) or inf


def write_audio(path: str | Path, samples: np.ndarray, rate: int) -> None:
    """Write float samples `[T]` or `[T, channels]`, the format told by the extension.

    Complete or not at all. Raises UsageError for an extension that is not in WRITABLE, a folder
    that does not exist or a rate that the format cannot hold, SpeechPruneError where writing fails.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise UsageError(f"{path}: cannot write {path.suffix!r}, only {', '.join(WRITABLE)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    container, encoding = WRITABLE[path.suffix.lower()]
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with atomic(path) as target:
        try:
            with soundfile.SoundFile(target, "w", rate, channels, encoding, None, container) as out:
                # in pieces: libsndfile crashes on minutes of Vorbis at once
                for start in range(0, len(samples), BLOCK_FRAMES):
                    out.write(samples[start : start + BLOCK_FRAMES])
        except soundfile.LibsndfileError as error:
            if "sample rate" in error.error_string:
                raise UsageError(f"{path}: {error.error_string}") from error
            raise SpeechPruneError(f"cannot write {path}: {error.error_string}") from error


@contextmanager
def _open(name: str, label: str) -> Iterator[File]:
    """The recording as a non-empty, seekable file."""
    path = Path(name)
    if name != "-" and path.is_dir():
        raise AudioError(f"{label}: is a folder, not a recording")
    if name != "-" and not path.exists():
        raise AudioError(f"{label}: there is no such file")
    with path.open("rb") if name != "-" and path.is_file() else _stored(name) as file:
        if file.seek(0, SEEK_END) == 0:
            raise AudioError(f"{label}: is empty (0 bytes)")
        yield file


@contextmanager
def _stored(name: str) -> Iterator[FileIO]:
    """A copy of what comes through a pipe; libsndfile needs the descriptor itself: no buffer."""
    with TemporaryFile(buffering=0) as file:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as pipe:
            shutil.copyfileobj(pipe, file)
        yield file


def _parts(
    file: File, label: str, track: int | None, found: _Findings
) -> Iterator[Recording | SoundFile]:
    """The recording, and those that were joined to its end and that FFmpeg would not read.

    Each has to be read before the next is asked for. One that cannot be opened is `found` damage.
    Raises AudioError for more than MOST_PARTS.
    """
    rest, following = Part(file), joint(Part(file))
    for _ in range(MOST_PARTS):
        part = rest.until(following)
        with closing(_by_libsndfile(file, part, track) or _opened(part, label, track)) as recording:
            yield recording
        following = following or next_file(part, recording.bytes_end)
        if following is None:
            return
        if not _holds_sound(rest.behind(following), track):
            found.is_damaged = True
            return
        rest = rest.behind(following)
        following = joint(rest)
    raise AudioError(f"{label}: more than {MOST_PARTS:,} files are joined in it")


def _within(
    longest: float, blocks: Iterable[Block], begin: float, label: str, check: Callable[[], None]
) -> Iterator[Block]:
    """The same blocks, the first of which begins there. Raises TooLongError, and as `check`."""
    for block, rate in blocks:
        check()
        begin += len(block) / rate
        if begin > longest:
            raise TooLongError(
                f"{label}: is longer than {units.length(longest)}, the most that is taken"
            )
        yield block, rate


def _by_libsndfile(file: File, part: Part, track: int | None) -> SoundFile | None:
    is_whole = part.size == Part(file).size
    is_its = is_plain_vorbis(part.until(None)) or is_nms_adpcm(part.until(None))
    if is_whole and track in (None, 1) and is_its:
        with suppress(soundfile.LibsndfileError, TypeError):  # as of a name that ends in .raw
            return SoundFile(file)
    return None


def _opened(part: Part, label: str, track: int | None) -> Recording:
    try:
        recording = Recording(part.until(None), label, track)
        if recording.channels or (problem := _problem(part.until(None))) is None:
            return recording
    except av.FFmpegError as error:
        problem = _problem(part.until(None)) or error.strerror or str(error)
    head = part.until(None).read(16)
    raise AudioError(f"{label}: not audio: {problem.rstrip('.')}; it begins with {head!r}")


def _problem(part: Part) -> str | None:
    """Why FFmpeg cannot open it, where its bytes or libsndfile say more than FFmpeg does."""
    if ends_early(part):
        return "it is cut off before its index"
    part.seek(0)
    if not part.read(4).startswith(EXPLAINED):
        return None
    part.seek(0)
    try:
        soundfile.info(part)
    except soundfile.LibsndfileError as error:
        return error.error_string if "not recognised" not in error.error_string else None
    return None


def _holds_sound(part: Part, track: int | None) -> bool:
    try:
        Recording(part, "", track).close()
    except (av.FFmpegError, AudioError, UsageError):
        return False
    return True


def _digest(file: File, found: _Findings) -> str:
    """SHA-256 of the bytes, and of the track's number where it is not the default one."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")
    if not found.is_default:
        digest.update(f"track {found.number}".encode())
    return digest.hexdigest()


@dataclass
class _Findings:
    """What there is to say about the parts of a recording."""

    tracks: int = 1
    number: int = 1
    is_default: bool = True
    film: bool = False
    missing: float = 0.0
    is_damaged: bool = False
    lost: list[tuple[float, float]] = field(default_factory=list)
    jumps: list[tuple[float, float]] = field(default_factory=list)

    def add(self, part: Recording | SoundFile, begin: float) -> None:
        """Count in a part that was read, and that begins there."""
        self.tracks, self.number, self.is_default = part.tracks, part.number, part.is_default
        self.film |= part.film
        self.missing += part.missing()
        self.is_damaged |= part.is_damaged or part.is_cut()
        self.lost += [(begin + when, length) for when, length in part.lost]
        self.jumps += [(begin + when, length) for when, length in part.jumps]

    def lines(self, read: float, asked: int | None) -> Iterator[str]:
        """Of what was not taken and what is lost, where `read` seconds were read."""
        if self.tracks > 1 and asked is None:
            taken = f"only track {self.number} is read"
            yield f"{self.tracks} audio tracks: {taken}, --track takes another"
        if self.film:
            yield "a film: only its sound is heard, its pictures are not looked at"
        if 0 < self.missing < SLACK:
            yield f"truncated: its last {1000 * self.missing:.2g} ms are missing"
        elif self.missing:
            claim = f"its header says {read + self.missing:.2f} s"
            yield f"truncated: {claim}, only {read:.2f} s could be read"
        elif self.is_damaged and not self.lost:
            yield f"damaged or cut off: {read:.2f} s could be read"
        if self.lost:
            length = sum(length for _, length in self.lost)
            first = self.lost[0][0]
            places = f" in {len(self.lost)} places" if len(self.lost) > 1 else ""
            where = f"{length:.2f} s{places}, from {first:.2f} s on, hold no sound"
            could = f"{read - length:.2f} s could be read"
            what = "damaged" if self.is_damaged else "damaged or paused"
            yield f"{what}: {where} and count as silence; {could}"
        for when, ahead in self.jumps[:1]:
            jump = f"at {when:.2f} s its clock leaps ahead by {ahead:.0f} s"
            yield f"{jump}, which is not followed"
