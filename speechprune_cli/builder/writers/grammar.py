"""Dialogues from a grammar of facts: offline, reproducible, made for nano's vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from speechprune_cli.builder import grammar
from speechprune_cli.builder.grammar import Fact, framing
from speechprune_cli.builder.script import Brief, Script, Utterance
from speechprune_cli.builder.topics import topics
from speechprune_cli.builder.writers.base import Writer, spoken_seconds
from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.extras import need

TRIES, FEW = 400, 40  # useless draws before the writer gives up, or looks further afield
OWN = 0.7  # share of the facts that belong to the subtopic, not to its neighbours
FACTS, REMARKS = 0.45, 0.3  # shares of sentences on facts and on the topic; the rest is filler
HESITATIONS = {"lecture": 0.08, "conversation": 0.2, "meeting": 0.15}
TURNS = (1, 1, 1, 2, 2, 3, 4)  # sentences that somebody says in a row


@dataclass(frozen=True)
class Grammar(Writer):
    """One detail is asked for; three like it are said beside it, and they are the wrong options."""

    held_out: bool = False  # only wordings, fillers among them, that nano was never trained on

    def check(self) -> None:
        """Numbers are spelled out by a package."""
        need("num2words", "--writer grammar", "build")

    def write(self, brief: Brief, rng: Random, asked: Set[str], pause: float) -> Script:
        """Never fails before the kinds of facts of the topic are used up."""
        kinds = topics()[brief.topic][brief.subtopic]
        for _ in range(TRIES):
            key, *others = grammar.draw_contrast(rng, rng.choice(kinds), held_out=self.held_out)
            question = rng.choice(grammar.questions(key, held_out=self.held_out))
            if question not in asked:
                break
        else:
            raise SpeechPruneError(f"{brief.id}: all questions about {brief.subtopic} are taken")
        texts, place = self._texts(brief, rng, key, others, pause)
        options = [fact.value for fact in rng.sample(others, len(others))]
        options.insert(brief.letter, key.value)
        speakers = _speakers(brief, len(texts), rng)
        said = tuple(Utterance(speaker=s, text=t) for s, t in zip(speakers, texts, strict=True))
        return Script(
            utterances=said, key=place, question=question, options=tuple(options), answer=key.value
        )

    def _texts(
        self, brief: Brief, rng: Random, key: Fact, others: Sequence[Fact], pause: float
    ) -> tuple[list[str], int]:
        """All sentences in order, and the number of the telling one."""
        needed = [fact.statement for fact in (key, *others)]
        body = list(self._body(brief, rng, (key, *others), needed, pause))
        around = rng.sample(needed[1:], len(others))
        around.insert(rng.randint(1, 2), body.pop(len(body) // 2))  # something between details
        split = rng.randint(0, len(around))
        before, after = around[:split], around[split:]
        latest = _seconds([*body, *around], pause)
        wanted = brief.position * latest
        while before and wanted < _seconds(before, pause):
            after.append(before.pop())
        while after and wanted > latest - _seconds(after, pause):
            before.append(after.pop())
        starts = list(accumulate((spoken_seconds(text, pause) for text in body), initial=0.0))
        first = wanted - _seconds(before, pause)
        place = min(range(len(starts)), key=lambda number: abs(starts[number] - first))
        begun, ended = body[:place], body[place:]
        if not begun or not ended:  # it begins or ends in the middle of the talk
            begun, ended = begun[:-1], ended[1:]
        return [*begun, *before, key.statement, *after, *ended], len(begun) + len(before)

    def _body(
        self, brief: Brief, rng: Random, asked: Sequence[Fact], needed: Sequence[str], pause: float
    ) -> Iterator[str]:
        """Opening, facts, remarks and closing that with `needed` last as long; nothing twice."""
        frame, topic = framing()[brief.scenario], brief.subtopic
        opening, closing = (
            rng.choice(frame[part]).format(topic=topic) for part in ("opening", "closing")
        )
        yield opening
        left = brief.seconds - _seconds([*needed, opening, closing], pause)
        said: set[str] = set()
        others = self._others(brief, rng, asked)
        loose = [text.format(topic=topic) for text in frame["remark"]]
        rest = grammar.fillers(held_out=self.held_out)
        while left > 0:
            draw = rng.random()
            known = [t for t in (loose if draw < FACTS + REMARKS else rest) if t not in said]
            text = next(others) if draw < FACTS or not known else rng.choice(known)
            said.add(text)
            begins_aside = text.partition(" ")[0].endswith(",")
            if rng.random() < HESITATIONS[brief.scenario] and not begins_aside:
                text = f"{rng.choice(framing()['hesitation'])} {grammar.within(text)}"
            left -= spoken_seconds(text, pause)
            yield text
        yield closing

    def _others(self, brief: Brief, rng: Random, asked: Sequence[Fact]) -> Iterator[str]:
        """Statements of the topic, sometimes of its neighbours; none about what is asked.

        Once hardly any are left, they are of all topics.
        """
        own = [k for k in topics()[brief.topic][brief.subtopic] if k != asked[0].kind]
        near = [k for kinds in topics()[brief.topic].values() for k in kinds if k != asked[0].kind]
        taken = {(fact.kind, fact.subject) for fact in asked}
        refused = 0
        while refused < TRIES:
            kind = rng.choice(own if rng.random() < OWN else near) if refused < FEW else None
            fact = grammar.draw_fact(rng, held_out=self.held_out, kind=kind)
            clear = all(grammar.apart(fact.value, other.value) for other in asked)
            refused += 1
            if fact.kind != asked[0].kind and clear and (fact.kind, fact.subject) not in taken:
                taken.add((fact.kind, fact.subject))
                yield fact.statement
                refused = 0
        raise SpeechPruneError(f"{brief.id}: there is nothing left to say: lower --seconds")


def _seconds(texts: Sequence[str], pause: float) -> float:
    return sum(spoken_seconds(text, pause) for text in texts)


def _speakers(brief: Brief, count: int, rng: Random) -> list[str]:
    """Who says each sentence: turns of varying length, and everybody speaks."""
    names = [f"spk_{number + 1}" for number in range(brief.speakers)]
    said: list[str] = []
    turns = 0
    while len(said) < count:
        others = [name for name in names if not said or name != said[-1]] or names
        name = names[turns] if turns < len(names) else rng.choice(others)
        said += [name] * (rng.choice(TURNS) if len(names) > 1 else count)
        turns += 1
    return said[:count]
