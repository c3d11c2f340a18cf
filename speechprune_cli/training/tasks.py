"""What nano is taught: to write down what it hears, and to answer questions about it.

Every example is a whole recording (nothing pruned) with several questions that share its prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from speechprune_cli.spiral.grammar import Fact, bare_questions, draw_fact, questions
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


@dataclass(frozen=True)
class QuestionAnswer:
    """A question about a recording, and its answer (normalised)."""

    question: str
    answer: str


def transcription(text: str, rng: Random) -> QuestionAnswer:
    """The whole recording, word for word."""
    return QuestionAnswer(rng.choice(TRANSCRIBE), text)


def ask_fact(fact: Fact, kinds: Sequence[str], rng: Random) -> QuestionAnswer:
    """Ask for a fact; without naming its subject only where `kinds` holds its kind once."""
    wordings = questions(fact)
    if kinds.count(fact.kind) == 1 and rng.random() < 0.15:
        wordings = bare_questions(fact)
    return QuestionAnswer(rng.choice(wordings), normalise(fact.value))


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
    asked = [ask_fact(fact, kinds, rng) for fact in facts for _ in range(2)]
    rng.shuffle(asked)
    asked = asked[: most * 3 // 4]
    quoted = rng.choices(texts, k=1 + len(asked) // 5) if rng.random() < 0.6 else []
    asked += [question for question in (ask_words(text, rng) for text in quoted) if question]
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
        if facts.setdefault((fact.kind, fact.subject), fact) is fact:
            texts.append(normalise(fact.statement))
    return texts, ask_about(list(facts.values()), texts, rng)
