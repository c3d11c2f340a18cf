"""What every benchmark must fulfil, whatever format it comes in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

from speechprune_cli.bench.sample import Sample, length_of
from speechprune_cli.errors import AudioError, UsageError

TOLERANCE = 0.5  # seconds that a key sentence may end behind its recording

Placed = tuple[str, Sample]  # a sample and where it stands, such as `data.jsonl:17`


def check_options(place: str, options: Sequence[str], answer: str) -> None:
    """UsageError unless there are enough different options, the answer among them."""
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise UsageError(f"{place}: {len(options)} options: give 2 to {len(ascii_uppercase)}")
    for number, option in enumerate(options):
        if not option:
            raise UsageError(f"{place}: option {ascii_uppercase[number]} is empty")
        if option in options[:number]:
            raise UsageError(f"{place}: the option {option!r} occurs twice")
    if answer not in options:
        raise UsageError(f"{place}: the answer {answer!r} is none of the options")


def check_key(place: str, key: tuple[float, float], audio: Path) -> None:
    """UsageError unless the seconds `key` lie in the recording, as far as that can be read."""
    start, end = key
    if not 0 <= start < end:
        raise UsageError(f"{place}: the key sentence cannot last from {start:g} to {end:g} s")
    length = length_of(audio)
    if end > length + TOLERANCE:
        raise UsageError(
            f"{place}: the key sentence ends at {end:g} s, {audio.name} at {length:.2f} s"
        )


def check_samples(source: str, placed: Sequence[Placed], cure: str) -> tuple[Sample, ...]:
    """The samples, once they are known to be some, of different ids, and not all without sound.

    Raises UsageError, and AudioError with the `cure` where all recordings are missing.
    """
    if not placed:
        raise UsageError(f"{source}: holds no samples")
    places: dict[str, str] = {}
    for place, sample in placed:
        if sample.id in places:
            raise UsageError(f"{place}: the id {sample.id!r} is taken by {places[sample.id]}")
        places[sample.id] = place
    samples = tuple(sample for _, sample in placed)
    if not any(sample.audio.is_file() for sample in samples):
        count = len({sample.audio for sample in samples})
        raise AudioError(f"{samples[0].audio}: none of the {count} recordings is there: {cure}")
    return samples
