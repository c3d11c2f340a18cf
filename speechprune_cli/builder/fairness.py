"""Whether a set can be answered without listening, or is skewed in another way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean

from speechprune_cli.bench import sample as bench
from speechprune_cli.bench.controls import controls
from speechprune_cli.bench.statistics import wilson
from speechprune_cli.builder.plan import LUFS, Plan
from speechprune_cli.builder.script import LETTERS, Sample, Speech

P = 0.01  # a set counts as skewed where chance would skew it as much less often than this
ALIKE = 95  # of 100: from here on two questions with their answers are near duplicates


@dataclass(frozen=True)
class Verdict:
    """One thing that was looked at."""

    name: str
    found: str
    wanted: str
    fair: bool | None  # None: a matter of quality, with nothing to hold it against


def spoken(sample: Sample) -> Speech:
    """How it was spoken. Raises ValueError where it is not."""
    if sample.speech is None:
        raise ValueError(f"{sample.brief.id} is not spoken yet")
    return sample.speech


def position(sample: Sample) -> float:
    """Where the key sentence begins: 0 at once, 1 as late as it could."""
    speech = spoken(sample)
    start, end = speech.key_span(sample.script)
    return start / max(speech.seconds - (end - start), 1e-9)


def verdicts(samples: Sequence[Sample], plan: Plan) -> list[Verdict]:
    """All that can be told of a finished set."""
    return [
        *_answers(samples),
        _positions(samples),
        _duplicates(samples),
        _genders(samples),
        *_sound(samples, plan),
        *_quality(samples),
    ]


def _answers(samples: Sequence[Sample]) -> Iterator[Verdict]:
    """Letters, and what the options give away."""
    from scipy.stats import chisquare

    letters = Counter(LETTERS[sample.script.letter] for sample in samples)
    p = float(chisquare([letters[letter] for letter in LETTERS]).pvalue)
    shown = " ".join(f"{letter} {letters[letter]}" for letter in LETTERS)
    yield Verdict("answer letters", f"{shown} (p = {p:.2g})", "equally often", p >= P)
    chance = fmean(1 / len(sample.script.options) for sample in samples)
    for control in controls([_question(sample) for sample in samples], permuted=False):
        low, high = wilson(control.right, control.n)
        found = f"{100 * control.right / control.n:.1f}% right ({100 * low:.0f}-{100 * high:.0f})"
        yield Verdict(control.name, found, f"chance, {100 * chance:.0f}%", low <= chance)


def _question(sample: Sample) -> bench.Sample:
    script = sample.script
    return bench.Sample(
        sample.brief.id,
        Path(),
        script.question,
        script.options,
        script.answer,
        transcript=script.transcript,
    )


def _positions(samples: Sequence[Sample]) -> Verdict:
    from scipy.stats import kstest

    places = [position(sample) for sample in samples]
    early = fmean(place < 1 / 3 for place in places)
    p = float(kstest(places, "uniform").pvalue)
    found = f"{100 * early:.0f}% in the first third (p = {p:.2g})"
    return Verdict("key sentence begins", found, "uniform", p >= P)


def _duplicates(samples: Sequence[Sample]) -> Verdict:
    from rapidfuzz.fuzz import ratio

    asked = [f"{sample.script.question} {sample.script.answer}".lower() for sample in samples]
    alike = sum(ratio(*pair, score_cutoff=ALIKE) > 0 for pair in combinations(asked, 2))
    return Verdict("questions alike", f"{alike} pairs", "none", alike == 0)


def _genders(samples: Sequence[Sample]) -> Verdict:
    from scipy.stats import binomtest

    heard = Counter(gender for sample in samples for gender in spoken(sample).genders.values())
    women, men = heard["f"], heard["m"]
    if not women + men:
        return Verdict("voices", "of unknown gender", "half and half", None)
    fair = float(binomtest(women, women + men).pvalue) >= P
    return Verdict("voices", f"{women} women, {men} men", "half and half", fair)


def _sound(samples: Sequence[Sample], plan: Plan) -> Iterator[Verdict]:
    measures = [sample.measures["sound"] for sample in samples]
    seconds = [each["seconds"] for each in measures]
    found = f"{fmean(seconds):.1f} s ({min(seconds):.1f}-{max(seconds):.1f})"
    near = abs(fmean(seconds) / plan.seconds - 1) <= 0.15
    yield Verdict("length", found, f"about {plan.seconds:g} s", near)
    loud = [each["lufs"] for each in measures]
    level = all(abs(value - LUFS) <= 1 for value in loud)
    yield Verdict("loudness", f"{min(loud):.1f} to {max(loud):.1f} LUFS", f"{LUFS:g} LUFS", level)
    clipped = max(each["clipped"] for each in measures)
    yield Verdict("clipping", f"at most {100 * clipped:.3f}%", "below 0.01%", clipped < 1e-4)


def _quality(samples: Sequence[Sample]) -> Iterator[Verdict]:
    measures = [sample.measures for sample in samples]
    if all("wer" in each for each in measures):
        errors, words = (sum(m["wer"][name] for m in measures) for name in ("errors", "words"))
        rate = errors / max(words, 1)  # over the words of all recordings
        yield Verdict("word error rate", f"{rate:.4f}", "SPIRAL: 0.0389", None)
    if all("mos" in each for each in measures):
        p808, overall = (fmean(m["mos"][name] for m in measures) for name in ("p808", "overall"))
        found = f"{p808:.2f} (DNSMOS P.808; overall {overall:.2f})"
        yield Verdict("predicted MOS", found, "SPIRAL: 3.91 (UTMOS-22)", None)
