"""820 questions about texts read aloud, 2 to 4 minutes each (the Hub, or --data FOLDER).

The reading comprehension (RACE) of AudioMarathon, as published: `race_benchmark.json`, an array of
records with `audio_path` (from the folder of that file), `question`, `options` and the letter
`answer`. CC-BY-NC-4.0.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated

from pydantic import Field

from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.bench.tasks._checks import check_options, check_samples
from speechprune_cli.bench.tasks._lines import Record, Text, inside, read_array
from speechprune_cli.bench.tasks.base import Task
from speechprune_cli.errors import UsageError
from speechprune_cli.hub import download

NAME = "audiomarathon-race"
HUB_ID = "Hezep/AudioMarathon"
INDEX = "race_benchmark.json"
PAGE = f"https://huggingface.co/datasets/{HUB_ID}"


class RaceRecord(Record):
    """What is read of a published record."""

    audio_path: Text
    question: Text
    options: Annotated[tuple[Text, ...], Field(min_length=2)]
    answer: Text


class AudioMarathonRace(Task):
    """AudioMarathon's RACE: reading comprehension of texts read aloud."""

    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """Raises UsageError for a bad index, AudioError without sound, ModelError for the Hub."""
        folder = _from_hub(offline) if data is None else data
        index = _index(folder)
        records, fingerprint = read_array(index, RaceRecord)
        # the Hub's cache is links to the content, which lies beside all snapshots
        root = folder.parents[1] if data is None else index.parent
        placed = [
            (place, _sample(number, index.parent, root, place, record))
            for number, (place, record) in enumerate(records)
        ]
        source = f"{HUB_ID}@{folder.name}" if data is None else str(index)
        cure = f"paths count from the folder of {INDEX}"
        return Benchmark(NAME, check_samples(source, placed, cure), source, fingerprint)


def _from_hub(offline: bool) -> Path:
    """A snapshot with all that lies in the folder of the index, and below."""
    get = partial(
        download, HUB_ID, kind="dataset", offline=offline, instead="give its folder with --data"
    )
    folder = get([INDEX, f"**/{INDEX}"], revision=None)  # the Hub's `**/` wants a folder
    part = _index(folder).parent.relative_to(folder)
    return get([(part / "*").as_posix()], revision=folder.name)


def _index(folder: Path) -> Path:
    found = sorted(folder.glob(f"**/{INDEX}"))
    if not found:
        raise UsageError(f"{folder}: there is no {INDEX}, as in {PAGE}")
    if len(found) > 1:
        places = " and ".join(path.parent.relative_to(folder).as_posix() for path in found[:2])
        raise UsageError(f"{folder}: {INDEX} is in {places}: name one folder with --data")
    return found[0]


def _sample(number: int, folder: Path, root: Path, place: str, record: RaceRecord) -> Sample:
    letters = dict(zip(ascii_uppercase, record.options, strict=False))
    if record.answer not in letters:
        raise UsageError(f"{place}: answer is {record.answer!r}: give one of {', '.join(letters)}")
    answer = letters[record.answer]
    check_options(place, record.options, answer)
    return Sample(
        id=f"race-{number:04d}",
        audio=inside(folder, record.audio_path, f"{place}: audio_path", root),
        question=record.question,
        options=record.options,
        answer=answer,
        group="high" if "high" in record.audio_path else "middle",  # schools, as they tell them
    )
