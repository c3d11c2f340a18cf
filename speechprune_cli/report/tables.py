"""Results as tables: on a terminal, in a pipe, as Markdown, CSV and JSON.

Fields of the JSON object:

    title, name, benchmark, model, scoring, permuted, samples (asked), limited (--limit took some
    only; the title says so)
    rows                   per condition: condition, method, rate, n, accuracy, low, high, f1,
                           errors, unparsed, p_full, p_original, recall, share, kept,
                           prompt_tokens, prune_seconds, prefill_seconds, tflops as explained in
                           `bench.metrics.Row`, and published, in percent
    controls               name, n, right, accuracy, low, high
    caption                what the columns mean

Accuracy, its interval, f1, recall and share lie within 0..1. CSV has the same fields, in one line
per condition or control; what is missing is null or empty there, a dash for people.
"""

from __future__ import annotations

import csv as csv_format
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from io import StringIO
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

from speechprune_cli.bench.controls import Control
from speechprune_cli.bench.metrics import Row
from speechprune_cli.bench.statistics import wilson
from speechprune_cli.report.facts import duration, quantity

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

DASH = "–"
GAP = 2
"""Blanks between the columns on a terminal."""
OPTIONS_BY = {
    "likelihood": "options chosen by their likelihood",
    "letter": "options chosen by their letter's likelihood",
    "generate": "options chosen by a free answer",
}


@dataclass(frozen=True)
class Results:
    """One run, or a part of it, ready to be shown."""

    title: str
    benchmark: str
    model: str
    rows: Sequence[Row]
    controls: Sequence[Control]
    published: Mapping[str, float] = field(default_factory=dict)
    """Accuracy in percent that the paper reports, by condition."""
    n_samples: int = 0
    """How many were asked."""
    limited: bool = False
    """Whether `--limit` left some out."""
    scoring: str = "likelihood"
    permuted: bool = False
    """Whether every rotation of the options was asked."""


@dataclass(frozen=True)
class Line:
    """A line of a table, for people."""

    cells: list[str]
    kind: Literal["reference", "condition", "control"]
    """Controls hear nothing; references have no rate."""


def heading(results: Results) -> str:
    """The title, marked where it is not the whole benchmark."""
    mark = f" · LIMITED to {results.n_samples:,} samples" if results.limited else ""
    return results.title + mark


def percent(share: float, low: float, high: float) -> str:
    """`62.5 (55-69)`: a share and its interval in percent."""
    return f"{100 * share:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def caption(results: Results) -> list[str]:
    """What the columns mean, a sentence or two a line."""
    samples, correct = f"{results.n_samples:,}", []
    if results.controls:
        rotations = ", in every rotation where the prompt shows them" if results.permuted else ""
        correct.append(OPTIONS_BY.get(results.scoring, results.scoring) + rotations)
    if any(row.f1 is not None for row in results.rows):
        correct.append("open answers right by exact match, f1 by their words")
    lines = [
        "; ".join([f"{results.model} on {results.benchmark}, {samples} samples", *correct]) + ".",
        "Accuracy in percent with its 95% Wilson interval; n counts the samples answered, errors "
        "are neither right nor wrong.",
        "p: exact two-sided McNemar test on the samples both answered, not corrected for the "
        "number of tests.",
        "Key recall: share kept of the sentence that answers; a method finds it where that is more "
        "than the share kept.",
        "Shares in percent; tokens: mean; time: medians per question; TFLOPs: of the prefill, "
        "linear layers alone.",
    ]
    if any(row.unparsed for row in results.rows):
        lines.append("Unparsed: free answers that name no option; they count as wrong.")
    if _published(results):
        lines.append("Published: the paper's accuracy of Qwen2-Audio, in percent.")
    return lines


def columns(results: Results) -> dict[str, Callable[[Row], str]]:
    """How each column shows a row, by its header, which may break in two lines."""
    rows, published = results.rows, _published(results)
    shown: dict[str, Callable[[Row], str]] = {
        "condition": lambda row: row.condition,
        "n": lambda row: f"{row.n:,}",
        "accuracy\n(95%)": lambda row: _or_dash(percent, row.accuracy, row.low, row.high),
    }
    if any(row.f1 is not None for row in rows):
        shown["f1"] = lambda row: _or_dash(_percent, row.f1)
    shown |= {
        "p vs\nfull": lambda row: _or_dash(_probability, row.p_full),
        "p vs\noriginal": lambda row: _or_dash(_probability, row.p_original),
        "errors": lambda row: f"{row.errors:,}",
    }
    if any(row.unparsed for row in rows):
        shown["unparsed"] = lambda row: f"{row.unparsed:,}"
    shown |= {
        "key\nrecall": lambda row: _or_dash(_percent, row.recall),
        "share\nkept": lambda row: _or_dash(_percent, row.share),
        "tokens\nkept": lambda row: _or_dash("{:,.0f}".format, row.kept),
        "prune +\nprefill": lambda row: _or_dash(_time, row.prune_seconds, row.prefill_seconds),
        "TFLOPs": lambda row: _or_dash(quantity, row.tflops),
    }
    if published:
        shown["published"] = lambda row: _or_dash("{:.1f}".format, published.get(row.condition))
    return shown


def lines(results: Results) -> list[Line]:
    """The cells of every line: conditions, silence, then what needs no model."""
    shown = columns(results)
    drawn = [
        Line([cell(row) for cell in shown.values()], _kind(row))
        for row in sorted(results.rows, key=lambda row: _kind(row) == "control")
    ]
    for control in results.controls:
        named = dict(zip(shown, control_cells(control), strict=False))
        drawn.append(Line([named.get(column, DASH) for column in shown], "control"))
    return drawn


def control_cells(control: Control) -> tuple[str, str, str]:
    """Its first three cells; it has no others."""
    share = control.right / control.n
    return control.name, f"{control.n:,}", percent(share, *wilson(control.right, control.n))


def header(results: Results) -> list[str]:
    """The columns' headers, each in one line."""
    return [name.replace("\n", " ") for name in columns(results)]


@dataclass(frozen=True)
class Drawn:
    """Results on a terminal; columns that find no room go into a further table below."""

    results: Results

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.text import Text

        names, body = list(columns(self.results)), lines(self.results)
        yield Text(heading(self.results) + "\n", "bold")
        for part in _parts(names, body, options.max_width):
            yield _draw(names, body, part)
            yield ""
        yield Text("\n".join(caption(self.results)), "dim")


def table(results: Results) -> Drawn:
    """For a terminal."""
    return Drawn(results)


def _parts(names: Sequence[str], body: Sequence[Line], width: int) -> list[list[int]]:
    """Columns, by index, of tables no wider than `width`; each begins with the conditions."""
    cells = [[*name.split("\n"), *(line.cells[i] for line in body)] for i, name in enumerate(names)]
    widths = [max(map(len, column)) + GAP for column in cells]
    parts = [[0]]
    for column in range(1, len(names)):
        taken = sum(widths[i] for i in parts[-1])
        if taken + widths[column] - GAP > width and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(column)
    return parts


def _draw(names: Sequence[str], body: Sequence[Line], part: Sequence[int]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False)
    for i in part:
        drawn.add_column(names[i], justify="right" if i else "left", vertical="bottom")
    body = [line for line in body if any(line.cells[i] != DASH for i in part[1:])]
    for line, following in zip_longest(body, body[1:]):
        drawn.add_row(
            *(line.cells[i] for i in part),
            style="dim" if line.kind == "control" else "",
            end_section=following is not None and following.kind != line.kind,
        )
    return drawn


def plain(results: Results, *, explained: bool = True) -> str:
    """For a pipe: title, header and lines with tabs between the cells, then the caption."""
    body = ["\t".join(cells) for cells in _body(results)]
    told = ["", *caption(results)] if explained else []
    return "\n".join([heading(results), *body, *told]) + "\n"


def markdown(results: Results) -> str:
    """A section: heading, table and explanation."""
    first, *rest = [
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
        for cells in _body(results)
    ]
    rule = "|---|" + "---:|" * (len(columns(results)) - 1)
    body = [first, rule, *rest]
    return "\n".join([f"### {heading(results)}", "", *body, "", " ".join(caption(results))]) + "\n"


def csv(shown: Sequence[Results]) -> str:
    """For spreadsheets: a line per condition and control, each with the table it belongs to."""
    kinds = (*(f.name for f in fields(Row)), "published", "right")
    text = StringIO()
    names = ["title", *_run(shown[0]), "kind", *kinds]
    writer = csv_format.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for results in shown:
        run, found = {"title": heading(results), **_run(results)}, as_json(results)
        for row in found["rows"]:
            writer.writerow({**run, "kind": "condition", **row})
        for control in found["controls"]:
            name = control.pop("name")
            writer.writerow({**run, "kind": "control", "condition": name, **control})
    return text.getvalue()


def as_json(results: Results) -> dict[str, Any]:
    """The fields that the module describes."""
    return {
        "title": heading(results),
        "name": results.title,
        **_run(results),
        "rows": [
            {**asdict(row), "published": results.published.get(row.condition)}
            for row in results.rows
        ],
        "controls": [
            {**asdict(control), "accuracy": control.right / control.n, "low": low, "high": high}
            for control in results.controls
            for low, high in [wilson(control.right, control.n)]
        ],
        "caption": " ".join(caption(results)),
    }


def from_json(found: Mapping[str, Any]) -> Results:
    """What `as_json` gave, as it was. Raises KeyError where it is not that."""
    return Results(
        title=found["name"],
        benchmark=found["benchmark"],
        model=found["model"],
        rows=[Row(**{f.name: row[f.name] for f in fields(Row)}) for row in found["rows"]],
        controls=[Control(c["name"], c["n"], c["right"]) for c in found["controls"]],
        published={
            row["condition"]: row["published"]
            for row in found["rows"]
            if row["published"] is not None
        },
        n_samples=found["samples"],
        limited=found["limited"],
        scoring=found["scoring"],
        permuted=found["permuted"],
    )


def _run(results: Results) -> dict[str, Any]:
    return {
        "benchmark": results.benchmark,
        "model": results.model,
        "scoring": results.scoring,
        "permuted": results.permuted,
        "samples": results.n_samples,
        "limited": results.limited,
    }


def _body(results: Results) -> list[list[str]]:
    return [header(results), *(line.cells for line in lines(results))]


def _published(results: Results) -> dict[str, float]:
    """The paper's figures for conditions that were run."""
    run = {row.condition for row in results.rows}
    return {name: value for name, value in results.published.items() if name in run}


def _kind(row: Row) -> Literal["reference", "condition", "control"]:
    if row.condition == "silence":
        return "control"
    return "reference" if row.rate is None else "condition"


def _or_dash(shown: Callable[..., str], *values: float | None) -> str:
    """A dash where a value is missing."""
    return DASH if None in values else shown(*values)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"


def _time(prune: float, prefill: float) -> str:
    return duration(prune + prefill)
