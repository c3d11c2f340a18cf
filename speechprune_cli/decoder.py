"""A recording as FFmpeg's libraries decode it, on its own clock.

Sound stands at the time that its container gives it: a gap or a late start is silence. Where the
clock is set back, as in files that were joined, what follows is put behind what came before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from av import AudioFrame, FFmpegError, Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from speechprune_cli import stated
from speechprune_cli.errors import AudioError, UsageError
from speechprune_cli.stated import Part

AVFMT_GENERIC_INDEX = 0x0100  # FFmpeg's mark of bare packets, whose times it counts itself
SLACK = 0.05  # seconds by which times and lengths may be off without a word
SET_BACK = 1.0  # seconds that a clock must fall behind to be another one
LONGEST_GAP = 10  # seconds that may be silent in a recording of unknown length
LONGEST_SILENCE = 2 * 3600  # seconds of it in all: damaged times ask for years
MOST_ERRORS = 100  # in a row, before a file is given up
STRAY_BYTES = 500  # between packets: above what a container puts there
EXPLICIT = ("mov", "matroska")  # containers whose times begin at 0, and whose gaps are meant
STATING = (*EXPLICIT, "flv", "tta", "wv", "ape")  # whose length FFmpeg does not guess
TAGS = re.compile(rb"Xing|Info|VBRI|ID3|TAG|APETAGEX")
"""What stands among the frames of joined mp3 and is no sound."""
OPTIONS = {
    "protocol_whitelist": "",  # a playlist in disguise must open no other file, nor the network
    "max_size": "65536",  # bytes of wav at a time: its own packets are of a few milliseconds
}
BLOCK_FRAMES = 2**14
FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "flt": 1, "dbl": 1}

Block = tuple[np.ndarray, int]  # float32 [frames, channels], and their rate


@dataclass
class Clock:
    """Where sound belongs, in seconds of the recording."""

    origin: float  # what the container calls its beginning
    end: float  # what it says of its end; 0 where it says nothing
    now: float = 0.0
    silence: float = 0.0
    jumps: list[tuple[float, float]] = field(default_factory=list)  # when, and how far

    def gap(self, stamp: float) -> float:
        """Seconds of silence that have to stand before sound with that time stamp."""
        ahead = stamp - self.origin - self.now
        if -SET_BACK <= ahead <= SLACK:
            return 0.0
        if ahead > 0 and self._may_be_silent(ahead):
            self.silence += ahead
            return ahead
        if ahead > 0:
            self.jumps.append((self.now, ahead))
        self.origin += ahead
        return 0.0

    def _may_be_silent(self, gap: float) -> bool:
        known = gap <= LONGEST_GAP or self.now + gap <= self.end + SLACK
        return known and self.silence + gap <= LONGEST_SILENCE


class Recording:
    """One audio track of a container: that of number `track`, else the default one.

    Raises AudioError where there is none, UsageError where there is none of that number, and what
    FFmpeg raises for what it cannot open.
    """

    def __init__(self, part: Part, label: str, track: int | None = None) -> None:
        self._container = av.open(part, "r", options=OPTIONS, metadata_errors="replace")
        self.close = self._container.close
        self._bytes = part.until(None)
        self._format = self._container.format.name.split(",")[0]
        self._choose(label, track)
        self._is_bare = bool(self._container.format.flags & AVFMT_GENERIC_INDEX)
        self._tick = float(self._track.time_base or 0)  # seconds
        self._rate = self._last_rate = self._track.codec_context.sample_rate
        self.film = any(not _is_cover(each) for each in self._container.streams.video)
        origin = 0 if self._format in EXPLICIT else self._container.start_time or 0
        self._clock = Clock(origin / 1_000_000, 0.0)
        self._clock.end = self._stated()
        self.is_damaged = False
        self.lost: list[tuple[float, float]] = []  # silence for lost sound: when, how long
        self.bytes_end = 0  # behind the last packet
        self._first = self._clock.origin  # time stamp, which is earlier where a codec warms up
        self._reached = 0.0  # by good packets of any track
        self._spot, self._since, self._stray = 0, 0, False

    def _choose(self, label: str, track: int | None) -> None:
        tracks = self._container.streams.audio
        if not tracks:
            kinds = sorted({stream.type for stream in self._container.streams})
            hint = ": give the recording, and this with --from-transcript"
            raise AudioError(
                f"{label}: holds no audio track, only {', '.join(kinds) or 'nothing'}"
                f"{hint if kinds == ['subtitle'] else ''}"
            )
        if track is not None and not 1 <= track <= len(tracks):
            raise UsageError(f"--track {track}: the audio tracks of {label} are 1 to {len(tracks)}")
        marked = (each for each in tracks if each.disposition & Disposition.default)
        default = next(marked, tracks[0])
        self._track = default if track is None else tracks[track - 1]
        self.tracks, self.number = len(tracks), tracks.index(self._track) + 1
        self.is_default = self._track is default
        if self._track.codec_context is None:
            raise AudioError(f"{label}: its sound is in a codec that cannot be decoded")
        if (self._format, self._track.codec_context.name) == ("caf", "alac"):
            # whose last packet is short already: FFmpeg would cut the rest of a whole one again
            self._track.codec_context.options = {"flags2": "+skip_manual"}

    @property
    def channels(self) -> int:
        """As its header says."""
        return self._track.codec_context.channels

    @property
    def jumps(self) -> list[tuple[float, float]]:
        """Leaps of the time stamps that no silence was put for: when, and how far."""
        return self._clock.jumps

    def blocks(self) -> Iterator[Block]:
        """All of its sound, and silence where it has none."""
        frames = self._frames()
        frame = next(frames, None)
        while frame is not None:
            following = next(frames, None)
            yield from self._placed(*frame, is_last=following is None)
            frame = following

    def seconds(self) -> float:
        """Length without decoding; a codec's padding may count."""
        clock, length = self._clock, 0.0
        if self._format == "ogg" and clock.end and not clock.origin and not self.is_cut():
            return clock.end  # as its last page says
        before: float | None = None
        for packet in self._packets():
            if packet.stream is not self._track or not packet.size:
                continue
            length = packet.duration * self._tick if packet.duration else length
            if packet.pts is None:
                clock.now += length
                continue
            stamp = packet.pts * self._tick
            if not packet.duration and before is not None:
                length = min(max(stamp - before, 0.0), SET_BACK)  # as of the one before
            clock.now += clock.gap(stamp)
            clock.now = max(clock.now, stamp - clock.origin + length)
            before = stamp
        return clock.now

    def missing(self) -> float:
        """Seconds that it states and that are not there, once all of it was read."""
        found = stated.sound_bytes(self._bytes)
        if found:
            claimed, there = found
            return self._clock.now * (claimed - there) / there if claimed - there > 1 else 0.0
        end, now = self._clock.end, self._clock.now
        return end - now if end - max(self._reached, now) > SLACK else 0.0

    def is_cut(self) -> bool:
        """Whether its bytes end before its structure does, or are not all read."""
        checks = (stated.ends_early, stated.skips_sound, stated.is_broken_avi)
        return any(check(self._bytes) for check in checks)

    def _stated(self) -> float:
        """When the track ends, as the file says; 0 where FFmpeg would only guess."""
        track, rate = self._track, self._track.codec_context.sample_rate
        length = (track.duration or 0) * self._tick
        if self._format == "flac":
            return stated.flac_frames(self._bytes) / (rate or 1)
        if self._format == "mp3":
            frames = stated.mp3_frames(self._bytes)
            return min(length, frames * (1152 if rate >= 32000 else 576) / (rate or 1))
        if self._format == "ogg":
            return length - self._clock.origin  # where FFmpeg often forgets to take off its start
        return self._stated_by_container(length) if self._format in STATING else 0.0

    def _stated_by_container(self, length: float) -> float:
        track = self._track
        if length:
            return (track.start_time or 0) * self._tick + length - self._clock.origin
        whole = (self._container.duration or 0) / 1_000_000
        told = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", track.metadata.get("DURATION", ""))
        if not told:
            return whole
        return min(whole, int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3]))

    def _packets(self) -> Iterator[Packet]:
        """Of all tracks, also from behind what is no packet, and one that flushes the decoder."""
        packets, errors = self._container.demux(), 0
        while errors < MOST_ERRORS:
            try:
                packet = next(packets, None)
            except FFmpegError:
                self.is_damaged = True
                packets, errors = self._container.demux(), errors + 1
                continue
            if packet is None:
                return
            if packet.size:
                errors = 0
                self._count(packet)
            yield packet

    def _count(self, packet: Packet) -> None:
        """Note how far packets reach in bytes and in time, and whether bytes between are none."""
        if packet.pos is not None and packet.pos > self._spot:
            self._stray |= packet.pos - self._spot - self._since > STRAY_BYTES
            self._spot, self._since = packet.pos, 0
        self._since += packet.size
        self.bytes_end = max(self.bytes_end, self._spot + packet.size)

    def _reach(self, packet: Packet) -> None:
        """Note the end of a packet whose content is good, as far as that is known."""
        if packet.pts is not None:
            tick = self._tick if packet.stream is self._track else float(packet.time_base)
            self._first = min(self._first, packet.pts * tick)
            end = (packet.pts + (packet.duration or 0)) * tick
            self._reached = max(self._reached, end - min(self._clock.origin, self._first))

    def _frames(self) -> Iterator[tuple[AudioFrame, bool]]:
        """Decoded frames, and whether something before each could not be read."""
        failed = False
        for packet in self._packets():
            if packet.stream is not self._track:
                self._reach(packet)
                continue
            try:
                frames = self._track.codec_context.decode(packet)
            except FFmpegError:
                if TAGS.search(bytes(packet)[:200]):
                    self._clock.origin += (packet.duration or 0) * self._tick
                else:
                    failed = self.is_damaged = True
                continue
            self._reach(packet)
            for frame in frames:
                yield frame, failed or self._stray
                failed = self._stray = False

    def _placed(self, frame: AudioFrame, is_suspect: bool, *, is_last: bool) -> Iterator[Block]:
        """A frame, behind the silence that its time stamp asks for."""
        clock, rate = self._clock, frame.sample_rate
        if frame.pts is not None:
            stamp = frame.pts * self._tick
            if self._is_bare and not self._rate == self._last_rate == rate:
                clock.origin = stamp - clock.now  # what counts samples counts wrongly
            self._last_rate = rate
            gap = clock.gap(stamp)
            if gap and (is_suspect or self._format not in EXPLICIT) and clock.now:
                self.lost.append((clock.now, gap))
                self.is_damaged |= is_suspect
            yield from self._advance(silence(round(gap * rate), frame.layout.nb_channels), rate)
        samples = as_float(frame)
        if is_last and self._format == "mov" and frame.duration:
            samples = samples[: round(frame.duration * self._tick * rate)]  # less its padding
        yield from self._advance([samples], rate)

    def _advance(self, blocks: Iterable[np.ndarray], rate: int) -> Iterator[Block]:
        for block in blocks:
            self._clock.now += len(block) / rate
            yield block, rate


def silence(frames: int, channels: int) -> Iterator[np.ndarray]:
    """Zeros, a block at a time."""
    for start in range(0, frames, BLOCK_FRAMES):
        yield np.zeros((min(BLOCK_FRAMES, frames - start), channels), np.float32)


def as_float(frame: AudioFrame) -> np.ndarray:
    """float32 `[frames, channels]`, full scale at 1."""
    name = frame.format.name.removesuffix("p")
    if name not in FULL_SCALE:
        (frame,) = av.AudioResampler(format="dbl").resample(frame)
        name = "dbl"
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, channels)
    with np.errstate(over="ignore", invalid="ignore"):
        samples = samples.astype(np.float32)
        return (samples - 128 if name == "u8" else samples) / np.float32(FULL_SCALE[name])


def _is_cover(track: VideoStream) -> bool:
    """Whether it is a still picture that belongs to the recording, as music files have one."""
    return bool(track.disposition & Disposition.attached_pic)
