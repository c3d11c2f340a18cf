"""A recording in, whatever its format, rate or length; retained sound out.

soundfile decodes wav, flac, ogg and opus, to the sample. PyAV decodes all else: also mp3, where
libsndfile guesses the length of files without a Xing header and then drops what is beyond it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from io import SEEK_CUR, SEEK_END, BufferedReader, FileIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from speechprune_cli.atomic import atomic
from speechprune_cli.errors import AudioError, SpeechPruneError, UsageError
from speechprune_cli.flow import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.stream import VideoStream

File = BufferedReader | FileIO
BLOCK_FRAMES = 2**14
SILENCE_PEAK = 1e-4  # -80 dBFS: below the dither of a 16-bit recording
SHORT_SECONDS = 0.1

AVFMT_GENERIC_INDEX = 0x0100  # FFmpeg's mark of formats that are a bare stream of packets
SOUNDFILE_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS")
STREAMING_BYTES = 0x7FFF0000  # lengths from here on stand in for that of wav from a pipe
LOWEST_RATE = 1000  # Hz: below is no speech, and resampling would make gigabytes of kilobytes
WRITABLE = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


def load_audio(source: str | Path) -> Audio:
    """Decode a recording (`-` is standard input), mix it down to mono and resample it to 16 kHz.

    Channels are averaged. `n` frames at `rate` become exactly `round(n * 16000 / rate)` samples.
    Memory beyond the samples does not grow with the length.

    Raises AudioError, one line that names the file and what was found in it, where it is missing,
    a folder, empty, not audio, without samples, or holds NaN or infinite samples. What is
    truncated, damaged, silent, very short or the sound of a film is decoded, with a line in
    `Audio.warnings`.
    """
    name = str(source)
    label = "standard input" if name == "-" else name
    try:
        with _open(name, label) as file:
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            with closing(_open_decoder(file, label)) as decoder:
                samples, frames = _resample(decoder, label)
    except OSError as error:
        raise AudioError(f"{label}: cannot be read: {error.strerror or error}") from error
    return Audio(
        samples=samples,
        source=name,
        sha256=sha256,
        source_rate=decoder.rate,
        channels=decoder.channels,
        source_seconds=frames / decoder.rate,
        warnings=tuple(_warnings(decoder, frames, samples, label)),
    )


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


def _open_decoder(file: File, label: str) -> _SoundFileDecoder | _AvDecoder:
    file.seek(0)
    head = file.read(16)
    problem = None
    if head.startswith(SOUNDFILE_MAGIC) and not _is_chained(file):
        file.seek(0)
        try:
            decoder = _SoundFileDecoder(file)
            if decoder.knows_length:
                return decoder
        except soundfile.LibsndfileError as error:
            problem = error.error_string
        except TypeError:  # the name ends in .raw, which soundfile takes for headerless
            pass
    return _open_av_decoder(file, label, head, problem)


def _open_av_decoder(file: File, label: str, head: bytes, problem: str | None) -> _AvDecoder:
    """Raises AudioError with the `problem` that libsndfile found, else with what FFmpeg says."""
    from av import FFmpegError

    try:
        return _AvDecoder(file, label)
    except StopIteration:
        if problem is None:
            raise AudioError(f"{label}: holds no samples") from None
    except FFmpegError as error:
        problem = problem or error.strerror or str(error)
    raise AudioError(f"{label}: not audio: {problem.rstrip('.')}; it begins with {head!r}")


def _is_chained(file: File) -> bool:
    """Whether it is several Ogg streams, one after another: libsndfile reads only the first."""
    file.seek(0)
    data_seen = False
    while (page := file.read(27)).startswith(b"OggS") and len(page) == 27:
        begins_stream = page[5] & 2
        if begins_stream and data_seen:
            return True
        data_seen = data_seen or not begins_stream
        file.seek(sum(file.read(page[26])), SEEK_CUR)
    return False


class _SoundFileDecoder:
    """Decodes with libsndfile.

    `stated` is the length in frames that the header claims, None where it claims nothing, and
    `slack` by how much that may be off. `film` says whether pictures run along.
    """

    slack = 0
    film = False

    def __init__(self, file: File) -> None:
        # by name, or by descriptor where it has none: reading through Python swallows Ctrl-C
        name = os.fsencode(file.name) if isinstance(file.name, str) else file.name
        self._file = soundfile.SoundFile(name, closefd=False)
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.stated = self._stated_frames()
        self.damaged = "lacks an end-of-stream bit" in self._file.extra_info
        self.close = self._file.close

    @property
    def knows_length(self) -> bool:
        """False for wav and flac headers that were never completed: soundfile needs a length."""
        return 0 < self._file.frames < 2**62

    def _stated_frames(self) -> int | None:
        """libsndfile shortens a truncated wav in silence; only its log tells."""
        frames: int = self._file.frames
        cut = re.search(r"^data : (\d+) \(should be (\d+)\)", self._file.extra_info, re.MULTILINE)
        if not cut:
            return frames
        stated, found = int(cut[1]), int(cut[2])
        return frames * stated // found if 0 < found < stated < STREAMING_BYTES else None

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 `[frames, channels]` at a time."""
        try:
            while len(block := self._file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                yield block
        except soundfile.LibsndfileError:
            self.damaged = True


class _AvDecoder:
    """Decodes the first audio track with FFmpeg's libraries; attributes as in _SoundFileDecoder.

    Raises StopIteration where nothing can be decoded.
    """

    def __init__(self, file: File, label: str) -> None:
        import av

        xing = _has_xing_header(file)
        file.seek(0)
        # no protocols: a playlist in disguise must not open other files or the network
        self._container = av.open(
            file, "r", options={"protocol_whitelist": ""}, metadata_errors="replace"
        )
        self.close = self._container.close
        self._label = label
        self.damaged = False
        if not self._container.streams.audio:
            tracks = ", ".join(sorted({stream.type for stream in self._container.streams}))
            raise AudioError(f"{label}: holds no audio track, only {tracks or 'nothing'}")
        self._track = self._container.streams.audio[0]
        self.film = any(not _is_cover(each) for each in self._container.streams.video)
        self._frames = self._decode()
        self._first = next(self._frames)
        self._to_float = av.AudioResampler(format="flt")
        self.rate = self._first.sample_rate
        self.channels = self._first.layout.nb_channels
        self.slack = self.rate // 100
        self.stated = self._stated_frames(xing)

    def _stated_frames(self, xing: bool) -> int | None:
        """Bare streams state no length, FFmpeg guesses one; a Xing header is what mp3 has."""
        guessed = self._container.format.flags & AVFMT_GENERIC_INDEX and not xing
        if guessed or self._track.duration is None or self._track.time_base is None:
            return None
        return round(self._track.duration * self._track.time_base * self.rate)

    def _decode(self) -> Iterator[AudioFrame]:
        from av import FFmpegError

        packets = self._container.demux(self._track)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except FFmpegError:
                self.damaged = True
            else:
                yield from frames

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 `[frames, channels]` at a time."""
        frame = self._first
        for following in self._frames:
            yield self._samples(frame)
            frame = following
        yield self._samples(frame)[: _unpadded(frame)]

    def _samples(self, frame: AudioFrame) -> np.ndarray:
        if (frame.sample_rate, frame.layout.nb_channels) != (self.rate, self.channels):
            raise AudioError(f"{self._label}: its rate or channels change on the way")
        (converted,) = self._to_float.resample(frame)
        return converted.to_ndarray().reshape(-1, self.channels)


def _is_cover(track: VideoStream) -> bool:
    """Whether it is a still picture that belongs to the recording, as music files have one."""
    from av.stream import Disposition

    return bool(track.disposition & Disposition.attached_pic)


def _unpadded(last: AudioFrame) -> int:
    """Samples of the last frame that are of the recording: mp4 pads it and tells its duration."""
    if last.duration and last.time_base and last.time_base * last.sample_rate == 1:
        return min(last.samples, last.duration)
    return last.samples


def _has_xing_header(file: File) -> bool:
    """Whether an mp3 states its length: a Xing, Info or VBRI header after the ID3 tag."""
    file.seek(0)
    head = file.read(10)
    if head.startswith(b"ID3"):
        size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False))
        file.seek(10 + size)
        head = b""
    return re.search(rb"Xing|Info|VBRI", head + file.read(4096)) is not None


def _resample(decoder: _SoundFileDecoder | _AvDecoder, label: str) -> tuple[np.ndarray, int]:
    """Mono float32 `[T]` at 16 kHz, and the number of frames that went in."""
    if decoder.rate < LOWEST_RATE:
        told = f"{decoder.rate} samples a second; at least {LOWEST_RATE:,} are needed"
        raise AudioError(f"{label}: its header says {told}")
    resampler = soxr.ResampleStream(decoder.rate, SAMPLE_RATE, 1, dtype="float32")
    pcm = bytearray()
    frames = 0
    for block in decoder.blocks():
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block.mean(axis=1)
        finite = np.isfinite(mono)
        if not finite.all():
            at = (frames + int(finite.argmin())) / decoder.rate
            raise AudioError(f"{label}: the sample at {at:.3f} s is NaN or infinite")
        frames += len(mono)
        pcm += resampler.resample_chunk(mono).tobytes()
    pcm += resampler.resample_chunk(np.empty(0, np.float32), last=True).tobytes()
    samples = np.frombuffer(pcm, np.float32)[: round(frames * SAMPLE_RATE / decoder.rate)]
    if not len(samples):
        raise AudioError(f"{label}: holds no samples")
    return samples, frames


def _warnings(
    decoder: _SoundFileDecoder | _AvDecoder, frames: int, samples: np.ndarray, label: str
) -> Iterator[str]:
    read = frames / decoder.rate
    if decoder.film:
        yield f"{label}: a film: only its sound is heard, its pictures are not looked at"
    if decoder.stated is not None and decoder.stated - frames > decoder.slack:
        stated = decoder.stated / decoder.rate
        yield f"{label}: truncated: its header says {stated:.2f} s, only {read:.2f} s could be read"
    elif decoder.damaged:
        yield f"{label}: damaged or cut off: {read:.2f} s could be read"
    if max(samples.max(), -samples.min()) < SILENCE_PEAK:
        yield f"{label}: silence: nothing in it is louder than -80 dBFS"
    if read < SHORT_SECONDS:
        yield f"{label}: only {read:.3f} s long, too short for speech"
