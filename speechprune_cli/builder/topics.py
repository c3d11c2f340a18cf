"""What the recordings of a build are about: a brief for each, a function of plan and number."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from random import Random

import yaml

from speechprune_cli.builder.plan import Plan
from speechprune_cli.builder.script import LETTERS, Brief

PEOPLE = {"lecture": (1,), "conversation": (2,), "meeting": (3, 4)}


@cache
def topics() -> dict[str, dict[str, list[str]]]:
    """Main topic -> subtopic -> kinds of facts that fit."""
    return yaml.safe_load((files(__package__) / "topics.yaml").read_text("utf-8"))


def briefs(plan: Plan) -> list[Brief]:
    """Scenarios, subtopics and answer letters in equal shares, positions evenly over the whole."""
    rng, count = Random(f"{plan.seed}/briefs"), plan.samples
    subtopics = [(main, sub) for main, subs in topics().items() for sub in subs]
    scenarios = _dealt(plan.scenarios, count, rng)
    letters = _dealt(range(len(LETTERS)), count, rng)
    chosen = _dealt(subtopics, count, rng)
    strata = _dealt(range(count), count, rng)
    return [
        Brief(
            number=number,
            scenario=scenarios[number],
            speakers=rng.choice(PEOPLE[scenarios[number]]),
            topic=chosen[number][0],
            subtopic=chosen[number][1],
            seconds=plan.seconds,
            letter=letters[number],
            position=(strata[number] + rng.random()) / count,
        )
        for number in range(count)
    ]


def _dealt(cards, count: int, rng: Random) -> list:
    """`count` of the cards, each as often as any other but for one, shuffled."""
    deck = rng.sample(list(cards), len(cards))
    dealt = [deck[number % len(deck)] for number in range(count)]
    rng.shuffle(dealt)
    return dealt
