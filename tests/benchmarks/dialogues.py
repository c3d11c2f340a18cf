"""Speaks the dialogues of dialogues.yaml: `python tests/benchmarks/dialogues.py OUT [--seed 0]`.

    OUT/audio/<id>.opus      16 kHz, Opus in Ogg
    OUT/said/<id>.json       who says what with which voice, and from when to when, in seconds
    OUT/tune.jsonl           questions with their options, for `speechprune eval jsonl --data`
    OUT/tune_free.jsonl      the same without options; the answer is the first of the wordings
    OUT/report.jsonl         likewise, about the other hard dialogues
    OUT/report_free.jsonl
    OUT/everyday.jsonl       likewise, about the everyday ones
    OUT/everyday_free.jsonl

A recording that is there, of the same words and voices, is not spoken again. judge.py counts the
free answers that hold an accepted wording.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import numpy as np
import soxr
import yaml
from pydantic import Field

from speechprune_cli.atomic import atomic
from speechprune_cli.builder.mixing import SPEED, loudness
from speechprune_cli.builder.plan import LUFS
from speechprune_cli.builder.script import Record, Text
from speechprune_cli.builder.sound import save_sound
from speechprune_cli.builder.speakers.base import Synthesizer
from speechprune_cli.builder.speakers.kokoro import Kokoro

WRITTEN = Path(__file__).with_suffix(".yaml")
HALVES = ("tune", "report")  # of the hard dialogues
INDEXES = (*HALVES, "everyday")
RATE = 16_000
PAUSE = (0.15, 0.5)  # seconds after what is said


class Question(Record):
    """Its fields are told in dialogues.yaml."""

    question: Text
    kind: Literal[
        "who", "when", "number", "where", "why", "what", "decision", "two", "paraphrase"
    ]  # fmt: skip
    answers: Annotated[tuple[Text, ...], Field(min_length=1)]
    options: Annotated[tuple[Text, ...], Field(min_length=4, max_length=4)]
    answer: Text
    key: Annotated[tuple[Text, ...], Field(min_length=1)]


class Dialogue(Record):
    """Its fields are told in dialogues.yaml."""

    id: Text
    set: Literal["hard", "everyday"]
    half: Literal["tune", "report"]
    voices: dict[str, str]
    said: tuple[dict[str, Text], ...]
    questions: tuple[Question, ...]

    @property
    def index(self) -> str:
        """Which of `INDEXES` asks about it."""
        return self.half if self.set == "hard" else self.set

    @property
    def utterances(self) -> list[tuple[str, str]]:
        """Speaker and text, in order."""
        return [pair for turn in self.said for pair in turn.items()]


def read() -> list[Dialogue]:
    """All dialogues. Raises ValidationError where one is not what it should be."""
    return [Dialogue(**each) for each in yaml.safe_load(WRITTEN.read_text("utf-8"))]


def main() -> None:
    """Speak what is not spoken yet, then write the questions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    choices = parser.parse_args()
    dialogues = read()
    for folder in ("audio", "said"):
        (choices.out / folder).mkdir(parents=True, exist_ok=True)
    speak_missing(dialogues, choices.out, choices.seed)
    for index in INDEXES:
        chosen = [dialogue for dialogue in dialogues if dialogue.index == index]
        for name, free in ((index, False), (f"{index}_free", True)):
            lines = [line for each in chosen for line in questions(each, choices.out, free=free)]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            write(choices.out / f"{name}.jsonl", text)


def speak_missing(dialogues: list[Dialogue], out: Path, seed: int) -> None:
    """The times are written last: where they are, the recording is."""
    speaker = Kokoro(held_out=True)
    missing = [each for each in dialogues if not is_spoken(each, out)]
    if not missing:
        return
    speaker.fetch(lambda done, total, note: None)
    speaker.check()
    synthesizer = speaker.load()
    for dialogue in missing:
        samples, said = speak(dialogue, synthesizer, seed)
        save_sound(out / "audio" / f"{dialogue.id}.opus", samples, RATE)
        write(out / "said" / f"{dialogue.id}.json", json.dumps(said, ensure_ascii=False, indent=1))
        print(f"{dialogue.id}: {len(samples) / RATE:.1f} s")


def is_spoken(dialogue: Dialogue, out: Path) -> bool:
    """Whether its recording is there, and says these words with these voices."""
    audio, times = out / "audio" / f"{dialogue.id}.opus", out / "said" / f"{dialogue.id}.json"
    if not (audio.is_file() and times.is_file()):
        return False
    said = json.loads(times.read_text("utf-8"))
    wanted = [(dialogue.voices[speaker], text) for speaker, text in dialogue.utterances]
    return [(each["voice"], each["text"]) for each in said] == wanted


def speak(
    dialogue: Dialogue, synthesizer: Synthesizer, seed: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """float32 samples `[T]` at `RATE`, everybody equally loud, and what is said when in them."""
    rng = Random(f"{seed}/{dialogue.id}")
    speeds = {speaker: round(rng.uniform(*SPEED), 2) for speaker in dialogue.voices}
    spoken = []
    for speaker, text in dialogue.utterances:
        samples, rate = synthesizer.say(text, dialogue.voices[speaker], speeds[speaker])
        spoken.append(soxr.resample(samples, rate, RATE))
    gains = level([speaker for speaker, _ in dialogue.utterances], spoken)
    pieces, said, at = list[np.ndarray](), list[dict[str, Any]](), 0
    for (speaker, text), samples in zip(dialogue.utterances, spoken, strict=True):
        pause = np.zeros(round(rng.uniform(*PAUSE) * RATE), np.float32)
        pieces += [np.clip(samples * gains[speaker], -1, 1), pause]
        times = {"start": round(at / RATE, 3), "end": round((at + len(samples)) / RATE, 3)}
        said.append({"speaker": speaker, "voice": dialogue.voices[speaker], "text": text, **times})
        at += len(samples) + len(pause)
    return np.concatenate(pieces), said


def level(speakers: list[str], spoken: list[np.ndarray]) -> dict[str, np.float32]:
    """Factors that bring every speaker to `LUFS`."""
    gains = {}
    for speaker in dict.fromkeys(speakers):
        mine = [samples for name, samples in zip(speakers, spoken, strict=True) if name == speaker]
        gains[speaker] = np.float32(10 ** ((LUFS - loudness(np.concatenate(mine), RATE)) / 20))
    return gains


def questions(dialogue: Dialogue, out: Path, *, free: bool) -> Iterator[dict[str, Any]]:
    """Lines of an index; `key` reaches from the first telling utterance to the last one."""
    said = json.loads((out / "said" / f"{dialogue.id}.json").read_text("utf-8"))
    times = {each["text"]: (each["start"], each["end"]) for each in said}
    for number, question in enumerate(dialogue.questions, start=1):
        starts, ends = zip(*(times[text] for text in question.key), strict=True)
        choice = {"answer": question.answers[0]} if free else {
            "options": question.options, "answer": question.answer
        }  # fmt: skip
        yield {
            "id": f"{dialogue.id}_{number}",
            "audio": f"audio/{dialogue.id}.opus",
            "question": question.question,
            **choice,
            "key": [min(starts), max(ends)],
            "transcript": " ".join(text for _, text in dialogue.utterances),
            "group": question.kind,
        }


def write(path: Path, text: str) -> None:
    """Complete or not at all."""
    with atomic(path) as target:
        target.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
