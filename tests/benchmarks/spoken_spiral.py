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
from dataclasses import replace
from pathlib import Path

from joined import Spoken

from speechprune_cli.atomic import atomic
from speechprune_cli.bench.controls import controls
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.bench.tasks._lines import read_lines

TUNED_ON = 15  # records of each kind


def main() -> None:
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("speech", "text", "out"):
        parser.add_argument(name, type=Path)
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    lines, _ = read_lines(told.speech / "spoken.jsonl", Spoken)
    parts: dict[str, list[Spoken]] = {"tune": [], "report": []}
    seen: dict[str, int] = {}
    for record in sorted((record for _, record in lines), key=lambda record: record.id):
        kind = record.id.partition("_")[0]
        seen[kind] = seen.get(kind, 0) + 1
        parts["tune" if seen[kind] <= TUNED_ON else "report"].append(record)
        shutil.copyfile(told.speech / record.audio, told.out / record.audio)
    for part, records in parts.items():
        with atomic(told.out / f"{part}.jsonl") as path:
            path.write_text("".join(f"{each.model_dump_json()}\n" for each in records), "utf-8")
        worth = in_common(told.out / f"{part}.jsonl", told.text)
        print(f"{part}.jsonl: {len(records)} records, {worth}")


def in_common(index: Path, text: Path) -> str:
    """What the control by words is worth where the text itself is known."""
    said = {}
    for record in map(json.loads, text.read_text(encoding="utf-8").splitlines()):
        turns = (" ".join(turn["text"]) for turn in record["transcript"])
        said[record["test_question"]["question"]] = " ".join(turns)
    samples = load_task("jsonl", index, offline=True).samples
    *_, control = controls([replace(s, transcript=said[s.question]) for s in samples], True)
    return f"{control.name}: {control.right:.1f} of {control.n}"


if __name__ == "__main__":
    main()
