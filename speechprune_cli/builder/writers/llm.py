"""Dialogues by a language model: any OpenAI-compatible endpoint, or a local transformers model."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Annotated

from pydantic import Field, ValidationError

from speechprune_cli.builder.script import LETTERS, Brief, Record, Script, Text, Utterance
from speechprune_cli.builder.writers._chat import Chat, Endpoint, Local
from speechprune_cli.builder.writers.base import Writer, spoken_seconds
from speechprune_cli.errors import ModelError, UsageError

SECONDS_PER_SENTENCE = 5.2  # SPIRAL's recordings of 88 s have 17 sentences
SHORTEST, LONGEST = 0.6, 1.5  # of the length that was asked for
ASTRAY = 0.2  # how far the key sentence may be from its place, as a share of the dialogue

ROLE = (
    "You write scripts for listening tests. They are spoken by a synthesizer, so you write only "
    "words that can be read aloud: no stage directions, no lists, no headings. You answer with "
    "one JSON object and nothing else."
)
TASK = """Write a {brief.scenario} about {brief.subtopic} ({brief.topic}).

- {speakers}
- {before} sentences, then the key sentence, then {after} sentences; each is an item of its own.
- The key sentence states one unusual detail, such as a number, a name, a place or a reason. It is \
said once and cannot be guessed from common knowledge or from the other sentences.
- Close to it, other details of the same sort are mentioned about other things.
- It sounds like people talking: sentences of different length, now and then "uh", "oh" or "well".
- A question asks for the detail. The answer is short. The three wrong options are of the same \
sort and length, and plausible; where possible they are the other details that were mentioned.

The JSON object:
{{"before": [{{"speaker": 1, "text": "..."}}, ...], "key": {{"speaker": 1, "text": "..."}}, \
"after": [{{"speaker": 2, "text": "..."}}, ...], "question": "...", "answer": "...", \
"wrong": ["...", "...", "..."]}}"""
SPEAKERS = {1: "One person speaks: speaker 1.", 2: "Two people speak: speakers 1 and 2."}
AGAIN = "That cannot be used: {why}. Write another one and answer with the JSON object alone."
PROBE = """You have not heard the recording that this question is about. Choose the most likely \
answer all the same.

{question}
{options}

Answer with the letter alone."""


class Sentence(Record):
    """One item of the answer."""

    speaker: Annotated[int, Field(ge=1, le=8)]
    text: Text


class Draft(Record):
    """What the model has to answer with."""

    before: tuple[Sentence, ...]
    key: Sentence
    after: tuple[Sentence, ...]
    question: Text
    answer: Text
    wrong: Annotated[tuple[Text, ...], Field(min_length=3, max_length=3)]


@dataclass(frozen=True)
class Llm(Writer):
    """What it writes is checked, and thrown out where the model can answer it without listening."""

    endpoint: str = ""
    """Such as `http://localhost:8000/v1`; none: `model` is loaded here. A key is taken from
    OPENAI_API_KEY."""
    model: str = ""  # the endpoint's name of it, a folder, or a Hub id
    attempts: int = 5  # answers that are asked for before a sample is given up

    def check(self) -> None:
        """Cheap: nobody is asked yet."""
        if not self.model:
            raise UsageError("--writer llm needs --set model=NAME, and --set endpoint=URL or none")
        if self.endpoint:
            Endpoint(self.endpoint, self.model)

    def write(self, brief: Brief, rng: Random, asked: Set[str], pause: float) -> Script:
        """Raises ModelError where the model is out of reach, or none of its answers is of use."""
        chat = _chat(self.endpoint, self.model)
        begun = [{"role": "system", "content": ROLE}, {"role": "user", "content": _task(brief)}]
        messages, why = begun, ""
        for _ in range(self.attempts):
            said = chat.ask(messages, seed=rng.getrandbits(31), json_only=True)
            try:
                script = _script(brief, said, rng, pause)
            except ValueError as error:
                why = _reason(error)
            else:
                if script.question in asked:
                    why = "its question has been asked before"
                elif _guessed(chat, script, rng):
                    why = "its question can be answered without the recording"
                else:
                    return script
            answered = {"role": "assistant", "content": said[:4000]}
            messages = [*begun, answered, {"role": "user", "content": AGAIN.format(why=why)}]
        raise ModelError(
            f"{brief.id}: none of {self.attempts} answers of {self.model} is of use; last: {why}"
        )


@lru_cache(maxsize=1)
def _chat(endpoint: str, model: str) -> Chat:
    return Endpoint(endpoint, model) if endpoint else Local(model)


def _task(brief: Brief) -> str:
    sentences = max(4, round(brief.seconds / SECONDS_PER_SENTENCE))
    before = round(brief.position * (sentences - 1))
    people = f"{brief.speakers} people speak: speakers 1 to {brief.speakers}."
    who = SPEAKERS.get(brief.speakers, people)
    return TASK.format(brief=brief, speakers=who, before=before, after=sentences - 1 - before)


def _script(brief: Brief, said: str, rng: Random, pause: float) -> Script:
    """Raises ValueError, worded for the model, where the answer is of no use."""
    found = re.search(r"\{.*\}", said, re.DOTALL)
    if not found:
        raise ValueError("it is not a JSON object")
    draft = Draft.model_validate_json(found[0], strict=True)
    sentences = [*draft.before, draft.key, *draft.after]
    if len({sentence.speaker for sentence in sentences}) != brief.speakers:
        raise ValueError(f"there have to be {brief.speakers} speakers")
    if sum(sentence.text == draft.key.text for sentence in sentences) > 1:
        raise ValueError("the key sentence is said more than once")
    seconds = [spoken_seconds(sentence.text, pause) for sentence in sentences]
    share = sum(seconds) / brief.seconds
    if not SHORTEST <= share <= LONGEST:
        raise ValueError(f"it is too {'short' if share < 1 else 'long'} by a factor of {share:.1f}")
    place = sum(seconds[: len(draft.before)]) / max(sum(seconds) - seconds[len(draft.before)], 1)
    if abs(place - brief.position) > ASTRAY:
        raise ValueError("there are not as many sentences before and after the key one as asked")
    if draft.answer.casefold() in draft.question.casefold():
        raise ValueError("the question tells the answer")
    if len({option.casefold() for option in (draft.answer, *draft.wrong)}) < len(LETTERS):
        raise ValueError("the four options are not different")
    options = rng.sample(draft.wrong, len(draft.wrong))
    options.insert(brief.letter, draft.answer)
    return Script(
        utterances=tuple(Utterance(speaker=f"spk_{s.speaker}", text=s.text) for s in sentences),
        key=len(draft.before),
        question=draft.question,
        options=tuple(options),
        answer=draft.answer,
    )


def _guessed(chat: Chat, script: Script, rng: Random) -> bool:
    """Whether the model finds the answer with no transcript, in most orders of the options."""
    right = 0
    for turn in range(len(script.options)):
        order = [*script.options[turn:], *script.options[:turn]]
        listed = "\n".join(f"{LETTERS[n]}. {option}" for n, option in enumerate(order))
        asked = {"role": "user", "content": PROBE.format(question=script.question, options=listed)}
        said = chat.ask([asked], seed=rng.getrandbits(31), json_only=False)
        named = re.search(r"\b[A-D]\b", said)
        right += named is not None and order[LETTERS.index(named[0])] == script.answer
    return right > len(script.options) / 2


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'it'}: {first['msg'].lower()}"
    return str(error)
