"""Facts, how people say them and how people ask for them, drawn from `facts.yaml`, `words.yaml`.

Everything is reproducible from the `random.Random` handed in. Wordings marked `held_out` are kept
apart so that a test can be sure of never having been trained on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

import yaml
from num2words import num2words

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS = {"January": 31, "February": 29, "March": 31, "April": 30, "May": 31, "June": 30,
        "July": 31, "August": 31, "September": 30, "October": 31, "November": 30,
        "December": 31}  # fmt: skip
MONTHS = tuple(DAYS)
OPENER_SHARE = 0.25
CURRENCIES = ("dollars", "dollars", "dollars", "euros", "pounds")


@dataclass(frozen=True)
class Fact:
    """Something said once in a recording that a question can ask for."""

    kind: str
    subject: str
    value: str
    statement: str
    distractor: str  # another value of the same sort, spoken beside the true one by some statements


def draw_fact(rng: Random, *, held_out: bool = False, kind: str | None = None) -> Fact:
    """A random fact, worded from the held-out statements if `held_out`."""
    kind = kind or rng.choice(sorted(rules()))
    rule = rules()[kind]
    subject, value = draw_word(rng, rule["s"]), draw_word(rng, rule["v"])
    distractor = value
    while distractor == value:
        distractor = draw_word(rng, rule["v"])
    wordings = rule["say_held_out" if held_out else "say"]
    return _fact(rng, kind, (subject, value, distractor), wordings, held_out)


def draw_contrast(
    rng: Random, kind: str, *, count: int = 4, held_out: bool = False
) -> tuple[Fact, ...]:
    """Facts of one kind whose subjects and values cannot be mistaken for one another.

    The statement of the first may name the value of the second beside its own; the others name
    their own value only.
    """
    rule = rules()[kind]
    subjects = _draw_apart(rng, rule["s"], count)
    values = _draw_apart(rng, rule["v"], count)
    wordings = rule["say_held_out" if held_out else "say"]
    plain = [wording for wording in wordings if "{d}" not in wording]
    said = zip(subjects, values, [*values[1:], values[0]], strict=True)
    return tuple(
        _fact(rng, kind, each, plain if number else wordings, held_out)
        for number, each in enumerate(said)
    )


def apart(one: str, other: str) -> bool:
    """Whether neither says all that the other says: `Monday` and `next Monday` are not apart."""
    first, second = ({*text.lower().split()} for text in (one, other))
    return not (first <= second or second <= first)


def _draw_apart(rng: Random, slot: str, count: int) -> list[str]:
    drawn: list[str] = []
    while len(drawn) < count:
        word = draw_word(rng, slot)
        if all(apart(word, other) for other in drawn):
            drawn.append(word)
    return drawn


def _fact(
    rng: Random, kind: str, said: tuple[str, str, str], wordings: list[str], held_out: bool
) -> Fact:
    """With `said`, its subject, value and distractor, in one of the `wordings`."""
    subject, value, distractor = said
    wording = rng.choice(wordings)
    if not held_out and rng.random() < OPENER_SHARE:
        if not wording.startswith(("I ", "I'")):
            wording = wording[0].lower() + wording[1:]
        wording = f"{draw_word(rng, 'opener')} {wording}"
    statement = _sentence(wording.format(s=subject, v=value, d=distractor))
    return Fact(kind, subject, value, statement, distractor)


def questions(fact: Fact, *, held_out: bool = False) -> list[str]:
    """All wordings of the question that `fact` answers, its subject named."""
    wordings = rules()[fact.kind]["ask_held_out" if held_out else "ask"]
    return [_sentence(wording.format(s=fact.subject)) for wording in wordings]


def fillers(*, held_out: bool = False) -> list[str]:
    """Sentences that state no fact."""
    return list(_words()["filler_held_out" if held_out else "filler"])


def within(sentence: str) -> str:
    """A sentence as it goes on after something else: small, but for names and `I`."""
    first, blank, rest = sentence.partition(" ")
    known = first in _first_words() and first.partition("'")[0] != "I"
    return f"{first.lower()}{blank}{rest}" if known else sentence


@cache
def _first_words() -> frozenset[str]:
    """What wordings begin with; values and subjects may be names."""
    wordings = [text for rule in rules().values() for text in rule["say"] + rule["say_held_out"]]
    frames = [part for part in framing().values() if isinstance(part, dict)]
    framed = [text for part in frames for texts in part.values() for text in texts]
    said = [*wordings, *fillers(), *fillers(held_out=True), *framed]
    return frozenset(text.partition(" ")[0] for text in said if not text.startswith("{"))


def draw_word(rng: Random, name: str) -> str:
    """A random filler of the slot `name`, numbers spelled out as they are spoken."""
    compose = COMPOSED.get(name)
    return compose(rng) if compose else rng.choice(_words()[name])


@cache
def framing() -> dict:
    """Scenario -> `opening`, `remark`, `closing` -> sentences; and what people hesitate with."""
    return yaml.safe_load((files(__package__) / "framing.yaml").read_text("utf-8"))


@cache
def rules() -> dict[str, dict]:
    """Kind of fact -> slots of its subject `s` and value `v`, and all its wordings."""
    return yaml.safe_load((files(__package__) / "facts.yaml").read_text("utf-8"))


@cache
def _words() -> dict[str, list[str]]:
    return yaml.safe_load((files(__package__) / "words.yaml").read_text("utf-8"))


def _sentence(text: str) -> str:
    """With `an` before vowels, also at the start; the A of `hall A` is no article."""
    text = re.sub(r"((?:^|(?<=[.?!] ))A|\ba) (?=[aeiouAEIOU])", r"\1n ", text)
    return text[0].upper() + text[1:]


def _spell(number: int, **how) -> str:
    return num2words(number, **how).replace("-", " ").replace(",", "")


def _ordinal_date(rng: Random) -> str:
    month = rng.choice(MONTHS)
    day = _spell(rng.randint(1, DAYS[month]), to="ordinal")
    return rng.choice((f"the {day} of {month}", f"{month} {day}"))


def _date(rng: Random) -> str:
    forms = (
        _ordinal_date,
        _ordinal_date,
        lambda r: f"{r.choice(WEEKDAYS)} the {_spell(r.randint(1, 31), to='ordinal')}",
        lambda r: f"{r.choice(WEEKDAYS)} {_ordinal_date(r)}",
        lambda r: f"{r.choice(('next', 'this', 'the coming'))} {r.choice(WEEKDAYS)}",
        lambda r: f"the end of {r.choice(MONTHS)}",
        lambda r: f"the first week of {r.choice(MONTHS)}",
        lambda r: r.choice(WEEKDAYS),
    )
    return rng.choice(forms)(rng)


def _time(rng: Random) -> str:
    hour = _spell(rng.randint(1, 12))
    minute = _spell(rng.choice((5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55)))
    return rng.choice(
        (
            f"{hour} o'clock",
            f"half past {hour}",
            f"quarter past {hour}",
            f"quarter to {hour}",
            f"{hour} {minute}",
            f"{hour} {minute}",
            f"{minute} past {hour}",
            f"{hour} in the {rng.choice(('morning', 'afternoon', 'evening'))}",
            rng.choice(("noon", "midnight")),
        )
    )


def _money(rng: Random) -> str:
    amount = rng.choice(
        (
            rng.randint(2, 99),
            rng.randint(2, 99),
            100 * rng.randint(1, 9),
            100 * rng.randint(1, 9) + rng.randint(1, 99),
            1000 * rng.randint(1, 90),
            1000 * rng.randint(1, 9) + 100 * rng.randint(1, 9),
            1_000_000 * rng.randint(1, 9),
        )
    )
    return f"{_spell(amount)} {rng.choice(CURRENCIES)}"


def _count(rng: Random) -> str:
    return _spell(rng.choice((rng.randint(2, 20), rng.randint(21, 99), 100 * rng.randint(1, 9))))


def _room(rng: Random) -> str:
    return rng.choice(
        (
            f"room {_spell(rng.randint(1, 60))}",
            f"room {_spell(100 * rng.randint(1, 9) + rng.randint(1, 30))}",
            f"the {draw_word(rng, 'colour')} room",
            f"hall {rng.choice('ABCDEFGH')}",
            f"the {rng.choice(('north', 'south', 'east', 'west', 'old', 'new'))} wing",
            f"the {_spell(rng.randint(1, 9), to='ordinal')} floor",
        )
    )


def _extension(rng: Random) -> str:
    digits = " ".join(_spell(rng.randint(0, 9)) for _ in range(rng.choice((3, 4, 4, 5))))
    return rng.choice((digits, f"extension {digits}"))


def _duration(rng: Random) -> str:
    unit = rng.choice(("minutes", "hours", "days", "weeks", "months", "years"))
    number = rng.choice((rng.randint(2, 12), rng.randint(2, 90)))
    return rng.choice((f"{_spell(number)} {unit}",) * 5 + ("half an hour", "a whole day"))


def _person(rng: Random) -> str:
    first, last = draw_word(rng, "first_name"), draw_word(rng, "last_name")
    title = rng.choice(("Doctor", "Professor"))
    return rng.choice((first, first, f"{first} {last}", f"{first} {last}", f"{title} {last}"))


COMPOSED = {
    "weekday": lambda rng: rng.choice(WEEKDAYS),
    "date": _date,
    "time": _time,
    "money": _money,
    "count": _count,
    "room": _room,
    "extension": _extension,
    "duration": _duration,
    "percent": lambda rng: f"{_spell(rng.randint(1, 99))} percent",
    "year": lambda rng: _spell(rng.randint(1700, 2030), to="year"),
    "person": _person,
}
