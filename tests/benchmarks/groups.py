"""Accuracies of a run by the groups of its samples: what their ids begin with.

    python tests/benchmarks/groups.py RUN

whole.py names its questions so: `about_...`, `order_...`, `unsaid_...`, `end_...`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from speechprune_cli.bench.metrics import summarise
from speechprune_cli.bench.store import Run
from speechprune_cli.table import Row, Table, or_dash
from speechprune_cli.units import interval


def main() -> None:
    """Print a row for each condition, a column for each group."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    lines = Run(parser.parse_args().run).lines()
    groups = defaultdict[str, set[str]](set)
    for line in lines:
        groups[line.sample.partition("_")[0]].add(line.sample)
    cells = defaultdict[str, list[str]](list)
    for samples in groups.values():
        for row in summarise(lines, samples):
            cells[row.condition].append(or_dash(interval, row.accuracy, row.low, row.high))
    columns = ("condition", *(f"{name} (n = {len(each)})" for name, each in groups.items()))
    rows = tuple(Row((condition, *found)) for condition, found in cells.items())
    print(Table("groups", "", columns, rows, ()).markdown())


if __name__ == "__main__":
    main()
