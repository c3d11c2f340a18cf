"""Finding a piece of a recording in the recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIMILAR = 0.9  # cosine between the samples from which on a piece counts as found
QUIET = 1e-3  # stretches below this share of the piece's energy are too quiet to be it


def find_excerpt(recording: np.ndarray, piece: np.ndarray) -> int | None:
    """The sample where `piece` begins in `recording`, both `[T]`, however loud; None: nowhere."""
    import numpy as np

    energy = float(np.square(piece, dtype=np.float64).sum())
    if not 0 < len(piece) <= len(recording) or energy == 0:
        return None
    size = 1 << (len(recording) + len(piece) - 1).bit_length()
    spectrum = np.fft.rfft(recording, size) * np.fft.rfft(piece, size).conj()
    products = np.fft.irfft(spectrum, size)[: len(recording) - len(piece) + 1]
    sums = np.concatenate([[0.0], np.square(recording, dtype=np.float64).cumsum()])
    energies = sums[len(piece) :] - sums[: -len(piece)]
    cosines = products / np.sqrt(energy * np.maximum(energies, QUIET * energy))
    best = int(cosines.argmax())
    return best if cosines[best] >= SIMILAR else None
