"""The report on a finished set and its card, in Markdown, with one picture."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from speechprune_cli.builder.fairness import Verdict, position, spoken
from speechprune_cli.builder.layouts import LAYOUTS
from speechprune_cli.builder.plan import OPTIONS, Plan
from speechprune_cli.builder.script import LETTERS, SCENARIOS, Sample
from speechprune_cli.report.figures import KEPT, PRUNED, TEXT, write
from speechprune_cli.table import DASH, Row, Table
from speechprune_cli.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAIR: dict[bool | None, tuple[str, Literal["good", "bad", ""]]] = {
    True: ("yes", "good"),
    False: ("NO", "bad"),
    None: (DASH, ""),
}
"""For people, and how the row stands out."""
NOTE = (
    "Always the same letter, longest option and most words in common hear nothing: a set is unfair "
    "where the 95% interval of one of them lies above chance. Other rows are tested at p = 0.01."
)


def table(verdicts: Sequence[Verdict], samples: int, folder: Path | None = None) -> Table:
    """What was found, and what a fair set would show; as JSON also where the set is."""
    facts = {"folder": str(folder), "samples": samples} if folder else {"samples": samples}
    rows = []
    for each in verdicts:
        word, mark = FAIR[each.fair]
        cells = (each.name, each.found, each.wanted, word)
        rows.append(Row(cells, asdict(each), mark=mark, part="verdicts"))
    title = f"What was found in {samples} samples, and what a fair set would show"
    return Table(
        "fairness",
        title,
        ("check", "found", "wanted", "fair"),
        tuple(rows),
        (NOTE,),
        facts,
        parts=("verdicts",),
        words=(0, 1, 2, 3),
    )


def markdown(verdicts: Sequence[Verdict], samples: Sequence[Sample]) -> str:
    """The report."""
    care = "With so few samples only a gross skew would show." if len(samples) < 40 else ""
    lines = [
        f"# Is it fair? {len(samples)} samples",
        "",
        f"**{_summary(verdicts)}.** {care}",
        "",
        table(verdicts, len(samples)).markdown(),
        "![letters, positions, lengths, what hears nothing, word errors, MOS](report.png)",
        "",
        *(f"- {name}: measured by {how}" for name, how in sorted(samples[0].measured.items())),
        f"- speaking took {fmean(spoken(s).took for s in samples):.1f} s a sample",
        "",
    ]
    return "\n".join(lines)


def _summary(verdicts: Sequence[Verdict]) -> str:
    skewed = sorted({each.name for each in verdicts if each.fair is False})
    return f"Skewed: {', '.join(skewed)}" if skewed else "Fair: nothing is skewed"


def card(verdicts: Sequence[Verdict], samples: Sequence[Sample], plan: Plan, licence: str) -> str:
    """The set's README.md."""
    skewed = sum(each.fair is False for each in verdicts)
    kinds: Counter[str] = Counter(sample.brief.scenario for sample in samples)
    people = ", ".join(f"{kinds[name]} {name}s" for name in SCENARIOS if kinds[name])
    hours = sum(spoken(sample).seconds for sample in samples) / 3600
    topics = {(sample.brief.topic, sample.brief.subtopic) for sample in samples}
    voices = {voice for sample in samples for voice in spoken(sample).voices.values()}
    evaluation = LAYOUTS.make(plan.layout, {}).evaluation.format(folder="FOLDER")
    lines = [
        f"# {len(samples)} spoken questions",
        "",
        f"Synthetic speech, {hours:.2f} hours: {people}, on {len(topics)} subtopics of "
        f"{len({main for main, _ in topics})} topics, by {len(voices)} voices. Each recording "
        "has one multiple-choice question that a single sentence answers; when that sentence "
        "is said is exact to the sample.",
        "",
        f"- made by `{command(plan)}` (speechprune {__version__})",
        f"- written by `{plan.writer}`, spoken by `{plan.speaker}`: {licence}",
        "- every choice is in `build.json`, every sentence's times in `samples/`",
        f"- {'fair by' if not skewed else f'**{skewed} skews found:** see'} the checks in "
        "[report.md](report.md)",
        "- the people, firms and events in it are invented; the same settings and seed make "
        "the same index, and with the same versions on one machine the same sound",
        f"- run it: `{evaluation}`",
        "",
    ]
    return "\n".join(lines)


def command(plan: Plan) -> str:
    """The command line that makes the set."""
    usual, words = Plan().model_dump(), ["speechprune", "build", "FOLDER"]
    for name, value in plan.model_dump().items():
        if value == usual[name]:
            continue
        option = OPTIONS.get(name, f"--{name}")
        if name == "settings":
            shown = {k: str(v).lower() if isinstance(v, bool) else v for k, v in value.items()}
            words += [word for k, v in shown.items() for word in (option, f"{k}={v}")]
        elif name == "pause":
            words += [option, *map(str, value)]
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [word for each in values for word in (option, f"{each}")]
    return shlex.join(words)


def picture(verdicts: Sequence[Verdict], samples: Sequence[Sample], path: Path) -> None:
    """Six small charts; what a fair set would show is a dashed line, what is skewed is red."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.8), layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    colours = {each.name: TEXT if each.fair is False else KEPT for each in verdicts}
    colour = TEXT if TEXT in colours.values() else KEPT
    figure.suptitle(_summary(verdicts), x=0.01, ha="left", color=colour)
    letters = Counter(LETTERS[sample.script.letter] for sample in samples)
    counts = [letters[letter] for letter in LETTERS]
    axes[0].bar(list(LETTERS), counts, color=colours["answer letters"])
    axes[0].axhline(len(samples) / len(LETTERS), color=PRUNED, linestyle="--")
    axes[0].set_title("right answers by letter", loc="left")
    places = [position(sample) for sample in samples]
    axes[1].hist(places, 10, range=(0, 1), color=colours["key sentence begins"])
    axes[1].axhline(len(samples) / 10, color=PRUNED, linestyle="--")
    axes[1].set_title("where the key sentence begins", loc="left")
    axes[1].set_xlabel("share of the recording")
    seconds = [spoken(sample).seconds for sample in samples]
    _histogram(axes[2], seconds, "length", "s", colours["length"])
    _deaf(axes[3], [each for each in verdicts if "% right" in each.found], colours)
    measured = [sample.measures for sample in samples]
    wer = [100 * m["wer"]["errors"] / max(m["wer"]["words"], 1) for m in measured if "wer" in m]
    _histogram(axes[4], wer, "word error rate", "% of words", KEPT)
    mos = [m["mos"]["p808"] for m in measured if "mos" in m]
    _histogram(axes[5], mos, "predicted MOS", "DNSMOS P.808", KEPT)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    write(figure, path)


def _histogram(axes: Axes, values: Sequence[float], title: str, unit: str, colour: str) -> None:
    """Recordings over a quantity, its mean marked."""
    axes.set_title(title, loc="left")
    if values:
        axes.hist(values, 12, color=colour)
        axes.axvline(fmean(values), color="black", linewidth=1)
        axes.set_xlabel(f"{unit}; mean {fmean(values):.3g}")
    else:
        axes.set_axis_off()
        axes.text(0, 0.8, "not measured", transform=axes.transAxes)


def _deaf(axes: Axes, verdicts: Sequence[Verdict], colours: dict[str, str]) -> None:
    """What those get right who hear nothing."""
    names = [each.name for each in verdicts]
    shares = [float(each.found.partition("%")[0]) for each in verdicts]
    axes.barh(names, shares, color=[colours[name] for name in names])
    axes.axvline(100 / len(LETTERS), color=PRUNED, linestyle="--")
    axes.set_xlim(0, 100)
    axes.set_xlabel("% right")
    axes.set_title("without listening", loc="left")
