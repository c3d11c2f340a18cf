"""What nano is taught: to write down what it hears, and to answer questions about it.

Every example is a whole recording (nothing pruned) with several questions that share its prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from speechprune_cli.builder.grammar import Fact, draw_fact, questions, rules
from speechprune_cli.training.features import Piece
from speechprune_cli.training.text import normalise

TRANSCRIBE = (
    "Write down what is said.",
    "What is said?",
    "What did they say?",
    "Transcribe the recording.",
    "Write down every word.",
)
AFTER = (
    "What is said after {cue}?",
    "What comes after {cue}?",
    "What follows {cue}?",
    "{cue} what?",
)
BEFORE = ("What is said before {cue}?", "What comes before {cue}?", "What {cue}?")
BETWEEN = (
    "{left} what {right}?",
    "Fill the gap: {left} ... {right}",
    "What is between {left} and {right}?",
)
MENTIONED = (
    "What is mentioned?",
    "Which of these is mentioned?",
    "What do they talk about?",
    "What is it about?",
)

INVENTED_SHARE = 0.2
QUOTE_ANSWER = ("Quote the sentence: {question}", "In which words? {question}")
QUOTE_SENTENCE = (
    "Quote the sentence with {cue}",
    "Which sentence has {cue} in it?",
    "Repeat what is said with {cue}",
)
QUOTED_SHARE = 0.25
LONGEST_QUOTE = 24
"""Words."""


@dataclass(frozen=True)
class QuestionAnswer:
    """A question about a recording, and its answer (normalised)."""

    question: str
    answer: str
    sentence: int | None = None
    """Which of the recording's sentences answers; None: more than one."""


def transcription(text: str, rng: Random) -> QuestionAnswer:
    """The whole recording, word for word."""
    return QuestionAnswer(rng.choice(TRANSCRIBE), text)


def ask_fact(fact: Fact, kinds: Sequence[str], rng: Random) -> QuestionAnswer:
    """Ask for a fact; without naming its subject only where `kinds` holds its kind once."""
    wordings = questions(fact)
    if kinds.count(fact.kind) == 1 and rng.random() < 0.15:
        wordings = rules()[fact.kind]["bare"]
    return QuestionAnswer(rng.choice(wordings), normalise(fact.value))


def quote_fact(fact: Fact, kinds: Sequence[str], rng: Random) -> QuestionAnswer:
    """Ask for the sentence that answers, word for word.

    Short answers teach little each; a whole sentence says at every word which one to find.
    """
    question = ask_fact(fact, kinds, rng).question
    wording = rng.choice(QUOTE_ANSWER).format(question=question)
    return QuestionAnswer(wording, normalise(fact.statement))


def quote_sentence(text: str, rng: Random) -> QuestionAnswer | None:
    """Ask for a sentence by a few of its words; None if it is too short or too long."""
    words = text.split()
    if not 6 <= len(words) <= LONGEST_QUOTE:
        return None
    start = rng.randint(0, len(words) - 3)
    cue = " ".join(words[start : start + 3])
    return QuestionAnswer(rng.choice(QUOTE_SENTENCE).format(cue=cue), text)


def ask_words(text: str, rng: Random) -> QuestionAnswer | None:
    """Ask for one to four words of a sentence by the words beside them; None if it is too short."""
    words = text.split()
    if len(words) < 5:
        return None
    length = min(rng.choice((1, 1, 2, 2, 3, 4)), len(words) - 3)
    start = rng.randint(0, len(words) - length)
    answer = " ".join(words[start : start + length])
    left, right = words[max(0, start - 5) : start], words[start + length : start + length + 5]
    if rng.random() < 0.1:
        return QuestionAnswer(rng.choice(MENTIONED), answer)
    if len(left) >= 2 and len(right) >= 2 and rng.random() < 0.6:
        wording = rng.choice(BETWEEN).format(left=" ".join(left), right=" ".join(right))
    elif len(left) >= len(right):
        wording = rng.choice(AFTER).format(cue=" ".join(left))
    else:
        wording = rng.choice(BEFORE).format(cue=" ".join(right))
    return QuestionAnswer(wording, answer)


def ask_about(
    facts: Sequence[Fact], texts: Sequence[str], rng: Random, most: int = 24
) -> list[QuestionAnswer]:
    """Questions on a recording: every fact in two wordings, some words, all words."""
    kinds = [fact.kind for fact in facts]
    places = {text: place for place, text in enumerate(texts)}
    asked = [
        replace(
            (quote_fact if rng.random() < QUOTED_SHARE else ask_fact)(fact, kinds, rng),
            sentence=places.get(normalise(fact.statement)),
        )
        for fact in facts
        for _ in range(2)
    ]
    rng.shuffle(asked)
    asked = asked[: most * 3 // 4]
    about = rng.choices(texts, k=1 + len(asked) // 5) if rng.random() < 0.6 else []
    for text in about:
        found = rng.choice((ask_words, quote_sentence))(text, rng)
        if found:
            asked.append(replace(found, sentence=places[text]))
    if not asked or (len(texts) <= 2 and rng.random() < 0.5):
        asked.append(transcription(" ".join(texts), rng))
    return asked


def draw_recording(
    stated: Sequence[Piece], open_speech: Sequence[Piece], count: int, rng: Random
) -> list[Piece]:
    """`count` pieces, a third of them open speech, no two facts of one kind and subject."""
    pieces: list[Piece] = []
    taken: set[tuple[str, str]] = set()
    while len(pieces) < count:
        piece = rng.choice(open_speech if rng.random() < 0.3 else stated)
        key = (piece.fact["kind"], piece.fact["subject"]) if piece.fact else ("", piece.text)
        if key not in taken:
            taken.add(key)
            pieces.append(piece)
    return pieces


def invent(fact: Fact, sentences: Sequence[str], rng: Random) -> Fact:
    """The same fact with any few words as its value, so that values are copied, not known."""
    words = rng.choice(sentences).split()
    start, length = rng.randrange(len(words)), rng.choice((1, 1, 2, 2, 3))
    value = " ".join(words[start : start + length])
    statement = f" {normalise(fact.statement)} ".replace(f" {normalise(fact.value)} ", f" {value} ")
    return replace(fact, value=value, statement=statement.strip())


def written_recording(
    count: int, sentences: Sequence[str], rng: Random
) -> tuple[list[str], list[QuestionAnswer]]:
    """A recording's sentences as text, and questions on it: the same skill, a tenth of the cost."""
    facts: dict[tuple[str, str], Fact] = {}
    texts = []
    for _ in range(count):
        if rng.random() < 0.2:
            texts.append(rng.choice(sentences))
            continue
        fact = draw_fact(rng)
        if rng.random() < INVENTED_SHARE:
            fact = invent(fact, sentences, rng)
        if facts.setdefault((fact.kind, fact.subject), fact) is fact:
            texts.append(normalise(fact.statement))
    return texts, ask_about(list(facts.values()), texts, rng)
