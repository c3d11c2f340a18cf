"""`speechprune`, and `python -m speechprune_cli`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; an interrupt while it is imported ends it like any other."""
    try:
        from speechprune_cli import main as commands

        return commands.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
