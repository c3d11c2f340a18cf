"""Asks SPIRAL's questions of recordings that do not answer them, and of their own.

python tests/benchmarks/swapped.py SPEECH TEXT WORK

SPEECH holds the recordings and `spoken.jsonl` (joined.py), TEXT is a file of SPIRAL's records. WORK
gets `swapped.jsonl`, for free answers, and copies of the recordings, none of which anything was
tuned on (spoken_spiral.py). Every question permits "not said" and is asked three times:

    own   of its own recording, so that a reader that never answers is noticed
    near  of the recording that has most of the question's words, rare ones counting more
    far   of one drawn by chance

A recording that does not answer is of the same kind, has another main topic, and no wording of the
answer (swapped.yaml) is said in it. declined.py counts what the answers say.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import yaml
from joined import Spoken
from judge import holds
from spoken_spiral import Told, copy, halves, kind, read_texts, write

WRITTEN = Path(__file__).with_suffix(".yaml")
PERMIT = ' If the recording does not say it, answer "not said".'
NOT_SAID = "not said"


def main() -> None:
    """Write the questions, and copy the recordings."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("speech", "text", "work"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    records = halves(given.speech)["report"]
    asked = lines(records, read_texts(given.text), wordings())
    write(given.work / "swapped.jsonl", map(json.dumps, asked))
    copy(records, given.speech, given.work)
    for group, count in Counter(line["group"] for line in asked).items():
        print(f"{group}: {count} questions")


def wordings() -> dict[str, list[str]]:
    """Wordings that answer, by the record's id."""
    found: dict[str, list[str]] = yaml.safe_load(WRITTEN.read_text("utf-8"))
    return found


def lines(
    records: Iterable[Spoken], told: Mapping[str, Told], answers: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    """Of the index, recording by recording; questions without wordings are not asked."""
    by_id = {record.id: record for record in records}
    rarity = rarities([told[name].said for name in by_id])
    found = []
    for name in (name for name in by_id if name in answers):
        question = by_id[name].question
        silent = [each for each in by_id if is_silent(name, each, told, answers[name])]
        near = max(silent, key=lambda each: likeness(question, told[each].said, rarity))
        far = Random(name).choice([each for each in silent if each != near])
        for group, heard in (("own", name), ("near", near), ("far", far)):
            found.append({
                "id": f"{group}_{name}", "audio": by_id[heard].audio,
                "question": question + PERMIT,
                "answer": by_id[name].answer if group == "own" else NOT_SAID, "group": group,
            })  # fmt: skip
    return sorted(found, key=lambda line: (line["audio"], line["id"]))


def is_silent(name: str, other: str, told: Mapping[str, Told], answers: Iterable[str]) -> bool:
    """Whether the other record does not answer the question about this one."""
    comparable = kind(name) == kind(other) and told[name].topic != told[other].topic
    return comparable and not holds(told[other].said, answers)


def rarities(texts: Iterable[str]) -> dict[str, float]:
    """Of every word: one over the number of texts that have it."""
    counts = Counter(word for text in texts for word in words(text))
    return {word: 1 / count for word, count in counts.items()}


def likeness(question: str, text: str, rarity: Mapping[str, float]) -> float:
    """What the words that they have in common weigh."""
    return sum(rarity[word] for word in words(question) & words(text))


def words(text: str) -> set[str]:
    """All different ones, in small letters."""
    return set(re.findall(r"\w+", text.lower()))


if __name__ == "__main__":
    main()
