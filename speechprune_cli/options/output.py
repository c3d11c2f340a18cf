"""What comes out, and how much is said beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from speechprune_cli.options.grouping import output_option
from speechprune_cli.output import Output


@dataclass(frozen=True)
class OutputOptions:
    """The same in every command."""

    json: Annotated[bool, output_option("--json", metavar="", help="One JSON object a line.")] = (
        False
    )
    quiet: Annotated[bool, output_option("--quiet", "-q", metavar="", help="Only the result.")] = (
        False
    )
    verbose: Annotated[
        bool, output_option("--verbose", "-v", metavar="", help="More about what is done.")
    ] = False

    def open(self) -> Output:
        """Where everything goes."""
        return Output(json=self.json, quiet=self.quiet, verbose=self.verbose)
