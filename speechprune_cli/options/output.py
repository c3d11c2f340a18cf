"""What comes out, and how much is said beside it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from speechprune_cli.options.grouping import showing
from speechprune_cli.output import Output


@dataclass(frozen=True)
class OutputOptions:
    """The same in every command."""

    json: bool = showing("One JSON object a line.")
    quiet: bool = showing("Only the result.", "", "--quiet", "-q")
    verbose: bool = showing("More about what is done.", "", "--verbose", "-v")

    def open(self) -> Output:
        """Where everything goes, and what is logged."""
        out = Output(json=self.json, quiet=self.quiet, verbose=self.verbose)
        logging.getLogger("speechprune").setLevel(logging.INFO if out.notes else logging.WARNING)
        return out
