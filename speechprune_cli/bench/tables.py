"""Results as a table.

Fields of its JSON object:

    table, title           results; the title says where --limit took some samples only
    name, benchmark, model, scoring, permuted, samples (asked), limited
    rows                   per condition: kind (condition), condition, method, rate, n, accuracy,
                           low, high, f1, errors, unparsed, p_full, p_original, recall, share,
                           kept, prompt_tokens, prune_seconds, prefill_seconds, tflops, share_asked,
                           tokens_asked, total, budget, nominal_times, beyond_context, unread,
                           as explained in `bench.metrics.Row`, and published, in percent
    controls               per way to answer without a model: kind (control), condition and name
                           (the same), n, right, accuracy, low, high
    caption                what the columns mean

Accuracy, its interval, f1, recall and share lie within 0..1. CSV has the same fields, in one line
per condition or control; what is missing is null or empty there, a dash for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from speechprune_cli.bench.conditions import REFERENCES
from speechprune_cli.bench.controls import Control
from speechprune_cli.bench.metrics import Row
from speechprune_cli.bench.results import Results
from speechprune_cli.bench.statistics import wilson
from speechprune_cli.table import BEYOND, DASH, Table, or_dash
from speechprune_cli.table import Row as TableRow
from speechprune_cli.units import duration, interval, percent, probability, quantity

OPTIONS_BY = {
    "likelihood": "options chosen by their likelihood",
    "letter": "options chosen by their letter's likelihood",
    "generate": "options chosen by a free answer",
    "answered letter": "options chosen by the letter that the server answers",
}
UNREAD = "‡"  # behind the number of samples where some are not read in full
SILENT = frozenset(condition.name for condition in REFERENCES if condition.silence)
Columns = dict[str, Callable[[Row], str]]  # how each shows a row, by its header


def results_table(results: Results) -> Table:
    """References, conditions, silence, then what needs no model."""
    columns = _columns(results)
    controls = (_control_row(control, len(columns)) for control in results.controls)
    return Table(
        name="results",
        title=results.heading,
        columns=tuple(columns),
        rows=(*_condition_rows(results, columns), *controls),
        notes=tuple(_notes(results)),
        facts={
            "name": results.title,
            "benchmark": results.benchmark,
            "model": results.model,
            "scoring": results.scoring,
            "permuted": results.permuted,
            "samples": results.n_samples,
            "limited": results.limited,
        },
        parts=("rows", "controls"),
    )


def accuracy(control: Control) -> tuple[float, float, float]:
    """Share that a control gets right, and its 95% Wilson interval."""
    return control.right / control.n, *wilson(control.right, control.n)


def _condition_rows(results: Results, columns: Columns) -> Iterable[TableRow]:
    for row in sorted(results.rows, key=lambda row: row.condition in SILENT):
        section = "reference" if row.amount is None else "condition"
        silent = row.condition in SILENT
        published = results.published.get(row.condition)
        yield TableRow(
            cells=tuple(show(row) for show in columns.values()),
            fields={"kind": "condition", **asdict(row), "published": published},
            mark="quiet" if silent else "",
            section="control" if silent else section,
        )


def _control_row(control: Control, columns: int) -> TableRow:
    """Only the first three columns say something of it."""
    share, low, high = accuracy(control)
    shown = (control.name, f"{control.n:,}", interval(share, low, high))
    measured = {"accuracy": share, "low": low, "high": high}
    return TableRow(
        cells=shown + (DASH,) * (columns - len(shown)),
        fields={"kind": "control", "condition": control.name, **asdict(control), **measured},
        mark="quiet",
        section="control",
        part="controls",
    )


def _columns(results: Results) -> Columns:
    rows, published = results.rows, _published(results)
    columns: Columns = {
        "condition": lambda row: row.condition + f" {BEYOND}" * bool(row.beyond_context),
        "n": lambda row: f"{row.n:,}{UNREAD * bool(row.unread)}",
        "accuracy\n(95%)": lambda row: or_dash(interval, row.accuracy, row.low, row.high),
        "f1": lambda row: or_dash(percent, row.f1),
        "p vs\nfull": lambda row: or_dash(probability, row.p_full),
        "p vs\noriginal": lambda row: or_dash(probability, row.p_original),
        "errors": lambda row: f"{row.errors:,}",
        "unparsed": lambda row: f"{row.unparsed:,}",
        "key\nrecall": lambda row: or_dash(percent, row.recall),
        "share\nkept": lambda row: or_dash(percent, row.share),
        "tokens\nkept": lambda row: or_dash("{:,.0f}".format, row.kept),
        "prune +\nprefill": lambda row: or_dash(_together, row.prune_seconds, row.prefill_seconds),
        "TFLOPs": lambda row: or_dash(quantity, row.tflops),
        "published": lambda row: or_dash("{:.1f}".format, published.get(row.condition)),
    }
    told = {
        "f1": any(row.f1 is not None for row in rows),
        "unparsed": any(row.unparsed for row in rows),
        "published": bool(published),
    }
    return {header: show for header, show in columns.items() if told.get(header, True)}


def _together(*seconds: float) -> str:
    return duration(sum(seconds))


def _published(results: Results) -> dict[str, float]:
    """The paper's figures for conditions that were run."""
    run = {row.condition for row in results.rows}
    return {name: value for name, value in results.published.items() if name in run}


def _notes(results: Results) -> list[str]:
    samples, correct = f"{results.n_samples:,}", list[str]()
    if results.controls:
        rotations = ", in every rotation where the prompt shows them" if results.permuted else ""
        correct.append(OPTIONS_BY.get(results.scoring, results.scoring) + rotations)
    if any(row.f1 is not None for row in results.rows):
        correct.append("open answers right by exact match, f1 by their words")
    if any(row.n and row.accuracy is None for row in results.rows):
        correct.append("nothing is asked: what counts is whether the span is kept")
    notes = [
        "; ".join([f"{results.model} on {results.benchmark}, {samples} samples", *correct]) + ".",
        "Accuracy in percent with its 95% Wilson interval; n counts the samples answered, errors "
        "are neither right nor wrong.",
        "p: exact two-sided McNemar test on the samples both answered, not corrected for the "
        "number of tests.",
        "Key recall: share kept of the sentence that answers; a method finds it where that is more "
        "than the share kept.",
        f"Shares in percent; tokens kept: mean k{_of_what(results.rows)}; time: medians per "
        "question; TFLOPs: of the prefill, linear layers alone.",
    ]
    if beyond := max((row.beyond_context for row in results.rows), default=0):
        notes.append(
            f"{BEYOND} with prompts (of up to {beyond:,} samples) that are longer than the "
            "model was made for: its answers there cannot be trusted."
        )
    if unread := max((row.unread for row in results.rows), default=0):
        notes.append(
            f"{UNREAD} {unread:,} of the samples hold letters or symbols that the model has no "
            "tokens for: it was asked the rest (`unread` in lines.jsonl)."
        )
    if any(row.nominal_times for row in results.rows):
        notes.append("Times of this model's tokens are nominal: key recall is a guess.")
    if any(row.unparsed for row in results.rows):
        notes.append("Unparsed: answers that name no option; they count as wrong.")
    if _published(results):
        notes.append("Published: the paper's accuracy of Qwen2-Audio, in percent.")
    return notes


def _of_what(rows: Sequence[Row]) -> str:
    """N and B1 in words; with `--keep`, B1 is more where more is kept."""
    totals = [row.total for row in rows if row.total is not None]
    budgets = [row.budget for row in rows if row.budget is not None]
    return f" of N {max(totals):,.0f}, B1 {min(budgets):,.0f}" if totals and budgets else ""
