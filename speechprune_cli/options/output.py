"""What comes out, and how much is said beside it."""

from __future__ import annotations

from dataclasses import dataclass

from speechprune_cli.options.grouping import output_option
from speechprune_cli.output import Output


@dataclass(frozen=True)
class OutputOptions:
    """The same in every command."""

    json: bool = output_option("One JSON object a line.")
    quiet: bool = output_option("Only the result.", "--quiet", "-q")
    verbose: bool = output_option("More about what is done.", "--verbose", "-v")

    def open(self) -> Output:
        """Where everything goes."""
        return Output(json=self.json, quiet=self.quiet, verbose=self.verbose)
