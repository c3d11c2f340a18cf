"""What is reported of a run, and back from the file of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from speechprune_cli.bench.controls import Control
from speechprune_cli.bench.metrics import Row
from speechprune_cli.validation import checked

SAME = ("benchmark", "model", "limited", "scoring", "permuted")  # called so in the file too
CONTROL = ("name", "n", "right")


@dataclass(frozen=True)
class Results:
    """One run, or a part of it."""

    title: str
    benchmark: str
    model: str
    rows: Sequence[Row]
    controls: Sequence[Control]
    published: Mapping[str, float] = field(default_factory=dict)  # see `Task.published`
    n_samples: int = 0  # how many were asked
    limited: bool = False  # whether `--limit` left some out
    scoring: str = "likelihood"
    permuted: bool = False  # whether every rotation of the options was asked

    @property
    def heading(self) -> str:
        """The title, marked where it is not the whole benchmark."""
        mark = f" · LIMITED to {self.n_samples:,} samples" if self.limited else ""
        return self.title + mark

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Results:
        """From the JSON of `bench.tables`. Raises UsageError, KeyError, TypeError for others."""
        said = {
            "title": found["name"],
            "n_samples": found["samples"],
            **{name: found[name] for name in SAME},
            "rows": [_row(row) for row in found["rows"]],
            "controls": [
                checked(Control, {name: each[name] for name in CONTROL}, "a control:")
                for each in found["controls"]
            ],
            "published": {
                row["condition"]: row["published"]
                for row in found["rows"]
                if row["published"] is not None
            },
        }
        return checked(cls, said, "a table:")


def _row(found: Mapping[str, Any]) -> Row:
    """A row; the fields that have a default are those that older runs lack."""
    old = {f.name: f.default for f in fields(Row) if f.default is not MISSING}
    said = {f.name: found[f.name] for f in fields(Row) if f.name not in old or f.name in found}
    return checked(Row, said, f"the row {found['condition']}:")
