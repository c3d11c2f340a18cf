"""One method of a run against all others: differences of accuracy and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from speechprune_cli.bench.metrics import Line, PairedTest, Row, paired_tests, summarise
from speechprune_cli.table import Row as TableRow
from speechprune_cli.table import Table, or_dash
from speechprune_cli.units import interval, probability


@dataclass(frozen=True)
class Versus:
    """A method, its own rows, one for each amount, and the tests at these."""

    method: str
    rows: tuple[Row, ...]
    tests: tuple[PairedTest, ...]

    @classmethod
    def of(cls, lines: Sequence[Line], method: str) -> Versus:
        """From the lines of a run; nothing of a method that it does not have."""
        rows = [row for row in summarise(lines) if row.method == method and row.amount]
        rows.sort(key=lambda row: row.rate or 0)
        return cls(method, tuple(rows), tuple(paired_tests(lines, method)))

    def table(self) -> Table:
        """The method's own row, then one for each rival; a column for each amount."""
        found = {(_rival(test, self.method), test.condition): test for test in self.tests}
        own = [or_dash(interval, row.accuracy, row.low, row.high) for row in self.rows]
        rows = [TableRow(("(itself)", *own), section="own")]
        for rival in dict.fromkeys(rival for rival, _ in found):
            tests = [found.get((rival, row.condition)) for row in self.rows]
            fields = {test.condition: asdict(test) for test in tests if test}
            rows.append(TableRow((rival, *(or_dash(_cell, test) for test in tests)), fields))
        columns = (f"{self.method} against", *(row.asked for row in self.rows))
        notes = (
            f"First line: accuracy of {self.method} in percent, with its 95% Wilson interval.",
            "Below: that less the accuracy of each other method, in points, at the same amount or "
            "at none, with its 95% interval (Agresti and Min); then the exact two-sided McNemar p "
            "on the samples both answered, corrected for all tests of the table (Holm).",
        )
        return Table("versus", "", columns, tuple(rows), notes)


def _rival(test: PairedTest, method: str) -> str:
    """The rival without the amount that both have."""
    return test.rival.removesuffix(test.condition.removeprefix(method))


def _cell(test: PairedTest) -> str:
    points = f"{100 * test.difference:+.1f} ({100 * test.low:+.0f} to {100 * test.high:+.0f})"
    return f"{points} {probability(test.corrected)}"
