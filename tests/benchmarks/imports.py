"""Prints what one `ask` spends on imports, beside `import torch` alone.

python tests/benchmarks/imports.py RECORDING QUESTION [-m mini]

The recording is asked about once before, so that its transcript is known. Seconds are the sum over
all modules by `-X importtime`, the least of `RUNS` runs of each in turn.
"""

from __future__ import annotations

import re
import subprocess
import sys

RUNS = 5
LINE = re.compile(r"^import time:\s+(\d+) \|", re.MULTILINE)


def main() -> None:
    """Both, and how many times as long the one is."""
    ask = ["-m", "speechprune_cli", "ask", *sys.argv[1:]]
    subprocess.run([sys.executable, *ask], check=True)
    both = [(seconds(["-c", "import torch"]), seconds(ask)) for _ in range(RUNS)]
    torch, asking = map(min, zip(*both, strict=True))
    print(f"import torch {torch:.2f} s, ask {asking:.2f} s: {asking / torch:.2f} times")


def seconds(command: list[str]) -> float:
    """Spent on imports by a Python process."""
    timed = [sys.executable, "-X", "importtime", *command]
    done = subprocess.run(timed, check=True, capture_output=True, text=True)
    return sum(map(int, LINE.findall(done.stderr))) / 1e6


if __name__ == "__main__":
    main()
