"""`python -m speechprune_cli.training`: makes nano, in a checkout with the extra `training`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from speechprune_cli.errors import UsageError
from speechprune_cli.extras import need
from speechprune_cli.running import fail, run

NAME = "python -m speechprune_cli.training"
PACKAGES = ("num2words", "scipy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (see `errors.py`)."""
    try:
        for package in PACKAGES:
            need(package, NAME, "training")
    except UsageError as error:
        return fail(error)
    from speechprune_cli.training.commands import app

    return run(app, arguments, NAME)


if __name__ == "__main__":
    sys.exit(main())
