"""What comes out, and how much is said beside it."""

from __future__ import annotations

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
        """Where everything goes."""
        return Output(json=self.json, quiet=self.quiet, verbose=self.verbose)
