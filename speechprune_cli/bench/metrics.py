"""What the lines of a run come to, condition by condition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from speechprune_cli.bench.line import Line
from speechprune_cli.bench.statistics import holm, mcnemar, paired_interval, wilson
from speechprune_cli.methods import FULL, ORIGINAL, Amount, amount_asked

MEANS = ("f1", "recall", "share", "kept", "prompt_tokens", "tflops", "total", "budget")
Group = Mapping[str, Line]  # of one condition: the last line of every sample


@dataclass(frozen=True)
class Row:
    """One condition; None where there is nothing to tell, as when no sample was answered."""

    condition: str
    method: str
    rate: float | None
    n: int  # samples answered, or of which only a span was to be kept
    accuracy: float | None  # share of the answers that are right, 0..1
    low: float | None
    high: float | None  # ends of its 95% Wilson interval
    f1: float | None  # mean over the open questions
    errors: int  # samples that failed; they count neither as right nor as wrong
    unparsed: int  # answers that named no option; they count as wrong
    p_full: float | None  # exact McNemar test against the whole recording, where both answered
    p_original: float | None  # the same against the model's own cut
    recall: float | None  # mean share kept of the key sentence's tokens
    share: float | None  # mean share kept of all tokens
    kept: float | None  # mean number of audio tokens kept
    prompt_tokens: float | None  # mean length of the prompt, in audio and text tokens
    prune_seconds: float | None  # median
    prefill_seconds: float | None  # median, of what the model was asked
    tflops: float | None  # mean, of the prefill
    share_asked: float | None = None  # what was to stay, where that was asked for instead of a rate
    tokens_asked: int | None = None
    total: float | None = None  # mean N
    budget: float | None = None  # mean B1
    nominal_times: bool = False  # whether recall is by times that the model only guesses
    beyond_context: int = 0  # samples whose prompt is longer than the model was made for
    unread: int = 0  # samples in which the model has no tokens for some letters

    @property
    def amount(self) -> Amount | None:
        """What was asked for; None where the method settles it."""
        return amount_asked(self.rate, self.share_asked, self.tokens_asked)

    @property
    def asked(self) -> str:
        """The same for people: `rate 0.2`, `keep 20%`, or nothing."""
        return self.amount.words if self.amount else ""


def summarise(
    lines: Sequence[Line], samples: Iterable[str] | None = None, *, hard: bool = False
) -> list[Row]:
    """A row per condition, in the order of their first lines, over all `samples` or only some.

    Of several lines of one sample and condition the last counts. `hard` says that the samples were
    chosen because `original` fails them: nothing is tested against it then.
    """
    chosen = None if samples is None else frozenset(samples)
    groups = _latest(line for line in lines if chosen is None or line.sample in chosen)
    full, original = groups.get(FULL.label, {}), {} if hard else groups.get(ORIGINAL.label, {})
    return [_row(name, group, full, original) for name, group in groups.items()]


@dataclass(frozen=True)
class PairedTest:
    """Two conditions on the samples that both answered."""

    condition: str
    rival: str
    rate: float | None  # of the condition, where it has one
    n: int
    difference: float  # accuracy of the condition less that of its rival
    low: float  # of its 95% interval
    high: float
    p: float  # exact two-sided McNemar test
    corrected: float  # the same by Holm, over all tests of this method


def paired_tests(lines: Sequence[Line], method: str) -> list[PairedTest]:
    """`method` at each amount against every other method at the same one or at none."""
    groups = _latest(lines)
    firsts = {name: next(iter(group.values())) for name, group in groups.items()}
    compared = {
        (ours, theirs): pairs
        for ours, line in firsts.items()
        for theirs, rival in firsts.items()
        if line.method == method and line.amount is not None
        if rival.method != method and rival.amount in (line.amount, None)
        if (pairs := _both_answered(groups[ours], groups[theirs]))
    }
    corrected = holm([_chance(pairs) for pairs in compared.values()])
    return [
        _paired_test(firsts[ours], theirs, pairs, p)
        for ((ours, theirs), pairs), p in zip(compared.items(), corrected, strict=True)
    ]


def _paired_test(
    first: Line, rival: str, pairs: Sequence[tuple[Line, Line]], corrected: float
) -> PairedTest:
    differences = [_right(one) - _right(other) for one, other in pairs]
    low, high = paired_interval(differences)
    return PairedTest(
        condition=first.condition,
        rival=rival,
        rate=first.rate,
        n=len(pairs),
        difference=fmean(differences),
        low=low,
        high=high,
        p=_chance(pairs),
        corrected=corrected,
    )


def hard_ids(lines: Iterable[Line]) -> list[str]:
    """Samples that the model's own cut got wrong, in the order in which they were first asked."""
    latest = {line.sample: line for line in lines if line.condition == ORIGINAL.label}
    return [name for name, line in latest.items() if line.judged and not line.right]


def doubts(lines: Iterable[Line]) -> tuple[str, ...]:
    """What may be wrong with recordings and answers, summed up in a line for each kind."""
    answered = [line for line in lines if line.answered]
    heard = {line.audio_sha256: line for line in answered}.values()
    wordless = sum(not line.total for line in heard)
    noted = sum(bool(line.notes) for line in heard)
    told = {
        "recordings without words: {} of {} (counted as wrong, the model is not asked)": wordless,
        "transcripts with notes on what they lack: {} of {} (`notes` in lines.jsonl)": noted,
    }
    found = [what.format(count, len(heard)) for what, count in told.items() if count]
    if hanging := sum(bool(line.ties) for line in answered):
        text = "answers of the server that hang on a tie, which another engine may tip"
        found.append(f"{text}: {hanging} of {len(answered)} (`ties` in lines.jsonl)")
    return tuple(found)


def _latest(lines: Iterable[Line]) -> Mapping[str, Group]:
    """By condition."""
    groups: dict[str, dict[str, Line]] = {}
    for line in lines:
        groups.setdefault(line.condition, {})[line.sample] = line
    return groups


def _row(name: str, group: Group, full: Group, original: Group) -> Row:
    answered = [line for line in group.values() if line.answered]
    judged = [line for line in answered if line.judged]
    n, first = len(answered), next(iter(group.values()))
    right = sum(map(_right, judged))
    asked = [line for line in judged if line.prefill_seconds]  # of no words no model is asked
    low, high = wilson(right, len(judged)) if judged else (None, None)
    return Row(
        condition=name,
        method=first.method,
        rate=first.rate,
        n=n,
        accuracy=right / len(judged) if judged else None,
        low=low,
        high=high,
        errors=len(group) - n,
        unparsed=sum(line.unparsed for line in answered),
        p_full=None if name == FULL.label else _p_value(group, full),
        p_original=None if name == ORIGINAL.label else _p_value(group, original),
        share_asked=first.share_asked,
        tokens_asked=first.tokens_asked,
        nominal_times=any(line.nominal_times for line in answered),
        beyond_context=sum(line.beyond_context for line in answered),
        unread=sum(bool(line.unread) for line in answered),
        **{key: _over(answered, key, fmean) for key in MEANS},
        prune_seconds=_over(answered, "prune_seconds", median),
        prefill_seconds=_over(asked, "prefill_seconds", median),
    )


def _p_value(group: Group, reference: Group) -> float | None:
    """None where no sample was answered by both."""
    pairs = _both_answered(group, reference)
    return _chance(pairs) if pairs else None


def _both_answered(group: Group, reference: Group) -> list[tuple[Line, Line]]:
    return [
        (line, reference[sample])
        for sample, line in group.items()
        if line.judged and sample in reference and reference[sample].judged
    ]


def _right(line: Line) -> float:
    """Of a line that is judged."""
    return line.correct or 0.0


def _chance(pairs: Sequence[tuple[Line, Line]]) -> float:
    gained = sum(ours.right and not theirs.right for ours, theirs in pairs)
    lost = sum(theirs.right and not ours.right for ours, theirs in pairs)
    return mcnemar(gained, lost)


def _over(lines: Iterable[Line], key: str, average: Callable[[list[float]], float]) -> float | None:
    """Over the lines that have a value."""
    values = [value for line in lines if (value := getattr(line, key)) is not None]
    return average(values) if values else None
