"""Joins recordings to longer ones and shifts their questions.

python tests/benchmarks/joined.py SPEECH OUT --seconds 3600
python tests/benchmarks/joined.py SPEECH OUT --records 12 --recordings 25 --questions 3

SPEECH holds recordings at 16 kHz and `spoken.jsonl`, or what `--index` names: id, audio, question,
options, answer and, where it is known, key. OUT gets `index.jsonl`, as `speechprune eval jsonl
--data OUT` reads it, and `audio/`, in FLAC. Records are drawn by chance, none again before all have
come, with `GAP` seconds of silence after each.

With `--model mini` the joined recordings need not be recognised: their transcripts are put together
from those of their records, and kept where `eval` and `ask` find them: let SPEECHPRUNE_CACHE_DIR
name a folder of its own, and say so beside every figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile

from speechprune_cli import Session, load, load_audio
from speechprune_cli.atomic import atomic
from speechprune_cli.bench.tasks._lines import Record, read_lines
from speechprune_cli.flow import Sentence, Transcript, Word
from speechprune_cli.transcripts import store

RATE = 16_000
GAP = 1.0


class Spoken(Record):
    """A line of `spoken.jsonl`; what else is in it is left out."""

    id: str
    audio: str
    question: str
    options: tuple[str, ...]
    answer: str
    key: tuple[float, float] | None = None


@dataclass(frozen=True)
class Placed:
    """A record, and where it begins in a joined recording, in seconds."""

    record: Spoken
    start: float


def main() -> None:
    """Join as many recordings as asked; one that is there is joined anew."""
    choices = arguments()
    lines, _ = read_lines(choices.speech / choices.index, Spoken)
    records = [record for _, record in lines]
    (choices.out / "audio").mkdir(parents=True, exist_ok=True)
    asked = list[dict[str, Any]]()
    for number in range(choices.recordings):
        name, rng = f"audio/{number:02d}.flac", Random(f"{choices.seed}/{number}")
        drawn = islice(draw(records, rng), choices.records)
        placed = join(drawn, choices.speech, choices.out / name, choices.seconds)
        if choices.model:
            keep_transcript(choices.model, placed, choices.speech, choices.out / name)
        chosen = spread(placed, choices.questions, rng) if choices.questions else once(placed)
        asked += [line(each, name, number) for each in chosen]
    with atomic(choices.out / "index.jsonl") as path:
        texts = [json.dumps(each, ensure_ascii=False) + "\n" for each in asked]
        path.write_text("".join(texts), "utf-8")
    print(f"{choices.out}: {choices.recordings} recordings, {len(asked)} questions")


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--index", default="spoken.jsonl", help="a file of SPEECH")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float, help="how long a recording is at least")
    length.add_argument("--records", type=int, help="how many records a recording is made of")
    parser.add_argument("--recordings", type=int, default=1)
    parser.add_argument("--questions", type=int, help="of a recording, from all its parts alike")
    parser.add_argument("--model", help="put its transcripts together too")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def draw(records: list[Spoken], rng: Random) -> Iterator[Spoken]:
    """All by chance, then all again in another order, without end."""
    while True:
        yield from rng.sample(records, len(records))


def join(drawn: Iterable[Spoken], speech: Path, path: Path, seconds: float | None) -> list[Placed]:
    """Write one recording, record by record; it ends once it is as long as asked."""
    gap = np.zeros(round(GAP * RATE), np.float32)
    placed, at = list[Placed](), 0
    with atomic(path) as target, soundfile.SoundFile(target, "w", RATE, 1, format="FLAC") as file:
        for record in drawn:
            samples, rate = soundfile.read(speech / record.audio, dtype="float32")
            if rate != RATE or samples.ndim > 1:
                raise SystemExit(f"{record.audio}: {rate} Hz, wanted {RATE} and one channel")
            placed.append(Placed(record, at / RATE))
            for piece in (samples, gap):
                file.write(piece)
                at += len(piece)
            if seconds is not None and at >= seconds * RATE:
                break
    return placed


@cache
def loaded(model: str) -> Session:
    """The model."""
    return load(model)


def keep_transcript(model: str, placed: list[Placed], speech: Path, path: Path) -> None:
    """That of a joined recording."""
    session, sentences = loaded(model), list[Sentence]()
    for each in placed:
        said = session.encode(speech / each.record.audio).transcript
        sentences += [later(sentence, each.start) for sentence in said.sentences]
    origin = "transcripts of its records, put together"
    folder = session.cache.folder.with_name("transcripts")
    entry = store.entry_of(load_audio(path), session.model.recogniser, None, folder)
    store.keep(entry, Transcript(tuple(sentences), "en", origin))


def later(sentence: Sentence, by: float) -> Sentence:
    """The same, so many seconds later."""
    words = (Word(word.text, word.start + by, word.end + by) for word in sentence.words)
    return Sentence(tuple(words))


def once(placed: list[Placed]) -> list[Placed]:
    """The first of every record."""
    found = dict[str, Placed]()
    for each in placed:
        found.setdefault(each.record.id, each)
    return list(found.values())


def spread(placed: list[Placed], wanted: int, rng: Random) -> list[Placed]:
    """One from each of so many parts, of those whose key sentence is known where there are any."""
    first = once(placed)
    chosen = []
    for part in range(wanted):
        those = first[part * len(first) // wanted : (part + 1) * len(first) // wanted]
        chosen.append(rng.choice([each for each in those if each.record.key] or those))
    return chosen


def line(placed: Placed, audio: str, number: int) -> dict[str, Any]:
    """Of the index: the question as it was, the key sentence where it is now."""
    record = placed.record
    key = record.key and [round(placed.start + time, 3) for time in record.key]
    return {
        "id": f"{number:02d}_{record.id}",
        "audio": audio,
        "question": record.question,
        "options": record.options,
        "answer": record.answer,
        "key": key,
        "group": record.id.rpartition("_")[0],
    }


if __name__ == "__main__":
    main()
