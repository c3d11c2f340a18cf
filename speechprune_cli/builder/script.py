"""The data that flows through a build, one class per arrow.

    Brief -> Script -> Speech -> measures

A sample's file holds all of them as JSON, so that a build goes on where it was interrupted.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

SCENARIOS = ("lecture", "conversation", "meeting")
LETTERS = "ABCD"
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Record(BaseModel):
    """Immutable, and nothing else in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Brief(Record):
    """What is to be written."""

    number: int
    scenario: Literal["lecture", "conversation", "meeting"]
    speakers: int
    topic: str
    subtopic: str
    seconds: float
    letter: int  # place of the right option
    position: float  # where the telling detail begins, from 0 (at once) to 1 (it is said last)

    @property
    def id(self) -> str:
        """As SPIRAL names its records."""
        return f"{self.scenario}_{self.number}"


class Utterance(Record):
    """A sentence, and who says it."""

    speaker: str
    text: Text


class Script(Record):
    """A dialogue with a question that one of its sentences answers."""

    utterances: Annotated[tuple[Utterance, ...], Field(min_length=1)]
    key: int  # number of the sentence that answers
    question: Text
    options: Annotated[tuple[Text, ...], Field(min_length=2, max_length=26)]
    answer: Text

    @model_validator(mode="after")
    def _whole(self) -> Script:
        if not 0 <= self.key < len(self.utterances):
            raise ValueError("there is no such sentence")
        if len(set(self.options)) < len(self.options) or self.answer not in self.options:
            raise ValueError("the options have to differ and hold the answer")
        return self

    @property
    def letter(self) -> int:
        """Place of the right option."""
        return self.options.index(self.answer)

    @property
    def speakers(self) -> tuple[str, ...]:
        """In the order in which they first speak."""
        return tuple(dict.fromkeys(utterance.speaker for utterance in self.utterances))

    @property
    def transcript(self) -> str:
        """All that is said."""
        return " ".join(utterance.text for utterance in self.utterances)


class Speech(Record):
    """How a script was spoken."""

    voices: dict[str, str]  # of each speaker
    genders: dict[str, Literal["f", "m", "?"]]
    rate: int
    length: int  # in samples
    spans: tuple[tuple[int, int], ...]  # first sample of each sentence, and the one after its last
    took: float  # seconds that speaking took

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.length / self.rate

    def key_span(self, script: Script) -> tuple[float, float]:
        """When the answering sentence is said, in seconds; whole milliseconds."""
        start, end = self.spans[script.key]
        return start / self.rate, end / self.rate


class Sample(Record):
    """All that is known of a sample so far."""

    brief: Brief
    script: Script
    speech: Speech | None = None
    measures: dict[str, dict[str, float]] = {}  # what each check found, by the name of the check
    measured: dict[str, str] = {}  # what each of them measured with
