"""Makes a benchmark of SPIRAL's records, spoken, in two parts: one to tune on, one to report.

python tests/benchmarks/spoken_spiral.py SPEECH TEXT OUT

SPEECH holds the recordings and `spoken.jsonl` (`joined.py`), TEXT is a file of SPIRAL's records.
OUT gets copies of the recordings, `tune.jsonl` (the first 15 of each kind by name) and
`report.jsonl` (all others), as `speechprune eval jsonl --data` reads them. Printed is what words
that an option and the whole text have in common are worth.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from joined import Spoken

from speechprune_cli.atomic import atomic
from speechprune_cli.bench.controls import controls
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.bench.tasks._lines import read_lines

TUNED_ON = 15  # records of each kind


@dataclass(frozen=True)
class Told:
    """What SPIRAL tells of a record."""

    topic: str
    subtopic: str
    said: str  # all turns, one after the other


def main() -> None:
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("speech", "text", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    for part, records in halves(given.speech).items():
        path = given.out / f"{part}.jsonl"
        write(path, (each.model_dump_json() for each in records))
        copy(records, given.speech, given.out)
        print(f"{path.name}: {len(records)} records, {in_common(path, given.text)}")


def halves(speech: Path) -> dict[str, list[Spoken]]:
    """Records to `tune` on and to `report` on, by name."""
    lines, _ = read_lines(speech / "spoken.jsonl", Spoken)
    parts: dict[str, list[Spoken]] = {"tune": [], "report": []}
    seen: dict[str, int] = {}
    for record in sorted((record for _, record in lines), key=lambda record: record.id):
        seen[kind(record.id)] = seen.get(kind(record.id), 0) + 1
        parts["tune" if seen[kind(record.id)] <= TUNED_ON else "report"].append(record)
    return parts


def kind(name: str) -> str:
    """`lecture_27` -> `lecture`."""
    return name.partition("_")[0]


def read_texts(path: Path) -> dict[str, Told]:
    """What is told in a file of SPIRAL's records, by id."""
    found = {}
    for record in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        about, turns = record["metadata"], (" ".join(turn["text"]) for turn in record["transcript"])
        found[about["id"]] = Told(about["main_topic"], about["subtopic"], " ".join(turns))
    return found


def write(path: Path, lines: Iterable[str]) -> None:
    """Complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as target:
        target.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def copy(records: Iterable[Spoken], speech: Path, out: Path) -> None:
    """The recordings, beside what asks about them."""
    for record in records:
        shutil.copyfile(speech / record.audio, out / record.audio)


def in_common(index: Path, text: Path) -> str:
    """What the control by words is worth where the text itself is known."""
    told, samples = read_texts(text), load_task("jsonl", index, offline=True).samples
    *_, control = controls([replace(s, transcript=told[s.id].said) for s in samples], True)
    return f"{control.name}: {control.right:.1f} of {control.n}"


if __name__ == "__main__":
    main()
