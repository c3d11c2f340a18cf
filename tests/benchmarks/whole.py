"""Makes a benchmark of questions about whole recordings, of SPIRAL's spoken records.

python tests/benchmarks/whole.py SPEECH TEXT WORK

SPEECH holds the recordings and `spoken.jsonl` (joined.py), TEXT is a file of SPIRAL's records. WORK
gets `whole.jsonl` and copies of the recordings that it asks about, none of which anything was tuned
on (spoken_spiral.py). Its groups:

    about   what it is mainly about: the record's subtopic among others of its main topic. Nearly
            all name their subject when they begin, as people do; printed is how many do not
    order   in which of four orders three subjects come up
    unsaid  which of four subjects does not come up
    end     how it ends; wrong options are partly what came before

All but the first are written by hand in whole.yaml. In every group right options stand in all
places alike.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Annotated, Any

import yaml
from joined import Spoken
from pydantic import Field
from spoken_spiral import Told, copy, halves, kind, read_texts, write

from speechprune_cli.builder.script import Record, Text

WRITTEN = Path(__file__).with_suffix(".yaml")
UNCLEAR = ("meeting_56", "meeting_89")  # another subtopic would do as well
ABOUT = "What is the recording mainly about?"
ORDER = "In which order do these come up in the recording?"
UNSAID = "Which of these does not come up in the recording?"
END = "How does the recording end?"
Three = Annotated[tuple[Text, ...], Field(min_length=3, max_length=3)]


class Whole(Record):
    """Its fields are told in whole.yaml."""

    order: Three
    unsaid: Text
    end: Text
    not_end: Three


@dataclass(frozen=True)
class Asked:
    """A question about a record, and what may be answered."""

    group: str
    record: str
    question: str
    right: str
    wrong: tuple[str, ...]


def main() -> None:
    """Write the questions, and copy what they are about."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("speech", "text", "work"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    records, told = halves(given.speech)["report"], read_texts(given.text)
    names = [record.id for record in records]
    asked = [*about(names, told), *by_hand(names, read())]
    write(given.work / "whole.jsonl", map(json.dumps, lines(asked, records, told)))
    those = {each.record for each in asked}
    copy((record for record in records if record.id in those), given.speech, given.work)
    for group in dict.fromkeys(each.group for each in asked):
        print(f"{group}: {sum(each.group == group for each in asked)} questions")
    named = sum(names_subject(told[each.record]) for each in asked if each.group == "about")
    print(f"about: {named} first sentences have a word of the right option")


def read() -> dict[str, Whole]:
    """What is written by hand. Raises ValidationError where that is not what it should be."""
    written = yaml.safe_load(WRITTEN.read_text("utf-8"))
    return {name: Whole(**fields) for name, fields in written.items()}


def about(names: Iterable[str], told: Mapping[str, Told]) -> list[Asked]:
    """One of every record whose main topic has three more subtopics, in its kind of recordings."""
    subtopics = defaultdict[tuple[str, str], set[str]](set)
    for name, each in told.items():
        subtopics[kind(name), each.topic].add(each.subtopic)
    asked = []
    for name in names:
        right = told[name].subtopic
        others = sorted(subtopics[kind(name), told[name].topic] - {right})
        if len(others) >= 3 and name not in UNCLEAR:
            wrong = tuple(Random(name).sample(others, 3))
            asked.append(Asked("about", name, ABOUT, right, wrong))
    return asked


def by_hand(names: Iterable[str], written: Mapping[str, Whole]) -> list[Asked]:
    """Three of every record that something is written about."""
    asked = []
    for name in names:
        if name in written:
            each = written[name]
            order, *others = (", then ".join(those) for those in permutations(each.order))
            wrong = tuple(Random(name).sample(others, 3))
            asked += [
                Asked("order", name, ORDER, order, wrong),
                Asked("unsaid", name, UNSAID, each.unsaid, each.order),
                Asked("end", name, END, each.end, each.not_end),
            ]
    return asked


def lines(
    asked: Iterable[Asked], records: Iterable[Spoken], told: Mapping[str, Told]
) -> list[dict[str, Any]]:
    """Of the index. The right option's place goes round in every group."""
    audio = {record.id: record.audio for record in records}
    found, count = list[dict[str, Any]](), defaultdict[str, int](int)
    for each in sorted(asked, key=lambda each: Random(f"{each.group}/{each.record}").random()):
        options = Random(each.record).sample(each.wrong, len(each.wrong))
        options.insert(count[each.group] % 4, each.right)
        count[each.group] += 1
        found.append({
            "id": f"{each.group}_{each.record}", "audio": audio[each.record],
            "question": each.question, "options": options, "answer": each.right,
            "transcript": told[each.record].said, "group": each.group,
        })  # fmt: skip
    return sorted(found, key=lambda line: (line["audio"], line["id"]))


def names_subject(told: Told) -> bool:
    """Whether the first sentence has a word of the subtopic, or one that begins like it."""
    first = re.split(r"(?<=[.?!]) ", told.said)[0].lower()
    begun = {word[:5] for word in re.findall(r"\w{3,}", first)} - {"and"}
    return any(word[:5] in begun for word in re.findall(r"\w{3,}", told.subtopic.lower()))


if __name__ == "__main__":
    main()
