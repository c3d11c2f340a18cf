"""Sound of any rates and channels as one channel at 16 kHz."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import soxr

from speechprune_cli.decoder import BLOCK_FRAMES, Block
from speechprune_cli.errors import AudioError
from speechprune_cli.flow import SAMPLE_RATE

SILENCE_PEAK = 1e-4  # -80 dBFS: below the dither of a 16-bit recording
LOUDEST = 2.0**31  # of floats that hold 32-bit samples as they are; full scale is 1
LOWEST_RATE = 1000  # Hz: below is no speech, and resampling would make gigabytes of kilobytes
SHORT_SECONDS = 0.1
CANCELLING = 0.1  # share of the power that unrelated channels would leave in their mean


class Mixdown:
    """Mono at 16 kHz of blocks of any rate and number of channels, one stretch after another."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._pcm = bytearray()
        self._rate = 0
        self._resampler = soxr.ResampleStream(SAMPLE_RATE, SAMPLE_RATE, 1)
        self.seconds = self.cancelled = Fraction(0)
        self.source_rate = self.channels = 0

    def add(self, blocks: Iterable[Block]) -> None:
        """Mix, check and resample. Raises AudioError for samples that are no sound."""
        for block, rate in _gathered(blocks):
            self._add(block, rate)

    def _add(self, block: np.ndarray, rate: int) -> None:
        if rate != self._rate:
            self._begin(rate)
        self.source_rate = self.source_rate or rate
        self.channels = self.channels or block.shape[1]
        check_samples(block, rate, self.seconds, self._label)
        mono = self._mono(block)
        self.seconds += Fraction(len(mono), rate)
        self._pcm += self._resampler.resample_chunk(mono).tobytes()

    def samples(self) -> np.ndarray:
        """float32 `[T]`, once all was added."""
        self._end()
        return np.frombuffer(self._pcm, np.float32)

    def doubts(self, samples: np.ndarray) -> Iterator[str]:
        """Of what may be wrong with the `samples`, though all are there."""
        if self.cancelled:
            yield (
                f"its channels cancel each other for {float(self.cancelled):.1f} s: "
                "the loudest is taken there"
            )
        if max(samples.max(), -samples.min()) < SILENCE_PEAK:
            yield "silence: nothing in it is louder than -80 dBFS"
        if self.seconds < SHORT_SECONDS:
            yield f"only {float(self.seconds):.3f} s long, too short for speech"

    def _begin(self, rate: int) -> None:
        if rate < LOWEST_RATE:
            told = f"{rate} samples a second; at least {LOWEST_RATE:,} are needed"
            raise AudioError(f"{self._label}: its header says {told}")
        self._end()
        self._rate = rate
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def _end(self) -> None:
        if self._rate:
            rest = self._resampler.resample_chunk(np.empty(0, np.float32), last=True)
            self._pcm += rest.tobytes()
            del self._pcm[4 * round(self.seconds * SAMPLE_RATE) :]

    def _mono(self, block: np.ndarray) -> np.ndarray:
        """The mean of the channels; of channels that cancel each other in it, the loudest."""
        mono = block.mean(axis=1)
        channels = block.shape[1]
        powers = np.square(block).mean(axis=0)
        unrelated = powers.sum() / channels**2  # the mean's power, had they nothing in common
        if powers.max() < SILENCE_PEAK**2 or np.square(mono).mean() > CANCELLING * unrelated:
            return mono
        self.cancelled += Fraction(len(block), self._rate)
        return np.ascontiguousarray(block[:, powers.argmax()])


def check_samples(block: np.ndarray, rate: int, begin: Fraction, label: str) -> None:
    """Raise AudioError where `[frames, channels]` from that second on hold NaN or absurd values."""
    good = (np.abs(block) <= LOUDEST).all(axis=1)
    if not good.all():
        first = int(good.argmin())
        at = float(begin + Fraction(first, rate))
        value = block[first][np.argmax(~(np.abs(block[first]) <= LOUDEST))]
        told = f"is {value:.0e}, full scale is 1" if np.isfinite(value) else "is NaN or infinite"
        raise AudioError(f"{label}: the sample at {at:.3f} s {told}")


def _gathered(blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks of a rate and a number of channels joined to some of BLOCK_FRAMES at least."""
    held: list[np.ndarray] = []
    kind = (0, 0)
    for block, rate in blocks:
        if kind != (rate, block.shape[1]) or sum(map(len, held)) >= BLOCK_FRAMES:
            if held:
                yield np.concatenate(held), kind[0]
            held, kind = [], (rate, block.shape[1])
        held.append(block)
    if held:
        yield np.concatenate(held), kind[0]
