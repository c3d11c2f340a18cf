"""How long `ask` takes, and `ask --server local` beside a server that runs.

    python tests/benchmarks/local.py [RECORDING QUESTION]

Prints the least wall-clock seconds of `RUNS` runs of each in turn, the recording encoded before.
"""

from __future__ import annotations

import subprocess
import sys
import time

from load import server

from speechprune_cli.config import PACKAGE
from speechprune_cli.provenance import processor

RUNS = 5
MEETING = PACKAGE / "examples" / "meeting.ogg"


def main() -> None:
    """Both, and how many times as long the one takes."""
    question = MEETING.with_suffix(".question").read_text(encoding="utf-8").strip()
    asked = sys.argv[1:] or [str(MEETING), question]
    ask = [sys.executable, "-m", "speechprune_cli", "ask", *asked, "--model", "nano"]
    with server("nano"):
        ways = (ask, [*ask, "--server", "local"])
        taken = [[seconds(way) for way in ways] for _ in range(RUNS)]
    alone, local = map(min, zip(*taken, strict=True))
    print(processor())
    print(f"ask {alone:.2f} s, ask --server local {local:.2f} s: {alone / local:.1f} times as fast")


def seconds(command: list[str]) -> float:
    """Wall-clock."""
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
