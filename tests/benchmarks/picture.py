"""The README's picture: `python tests/benchmarks/picture.py OUT.svg`.

Runs the real command in a real (pseudo) terminal of 100 columns and draws what it printed.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import shlex
import struct
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 100, 40
ERASED = "\x1b[1A\x1b[2K"
"""One line up, and clear it: how a progress bar goes away."""
EXAMPLE = "speechprune_cli/examples/meeting.ogg"
ARGUMENTS = ["ask", EXAMPLE, "Where did Daniel get a job?"]


def run_in_terminal(arguments: list[str]) -> str:
    """What the tool writes to a terminal, escape sequences included."""
    own = {"SPEECHPRUNE_CACHE_DIR": tempfile.mkdtemp()}  # so that encoding is timed
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= own | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
        os.execv(sys.executable, [sys.executable, "-m", "speechprune_cli", *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = bytearray()
    try:
        while block := os.read(terminal, 65536):
            written += block
    except OSError:  # how Linux says that the other side of a terminal is closed
        pass
    os.waitpid(child, 0)
    return written.decode()


def main() -> None:
    """Draw it."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ speechprune {shlex.join(ARGUMENTS)}", style="bold"))
    lines: list[str] = []
    for line in run_in_terminal(ARGUMENTS).replace("\r\n", "\n").split("\n"):
        if ERASED in line:
            lines.pop()
        lines.append(line.rsplit("\r", 1)[-1])
    console.print(Text.from_ansi("\n".join(lines).strip("\n")))
    Path(sys.argv[1]).write_text(console.export_svg(title="speechprune"))


if __name__ == "__main__":
    main()
