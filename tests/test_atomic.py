"""Files that are complete or not there, and what a kill leaves of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from speechprune_cli.atomic import FORSAKEN, atomic

BEGUN = """
import os, signal, sys
from pathlib import Path
from speechprune_cli.atomic import atomic
with atomic(Path(sys.argv[1])) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path):
    """A folder in which somebody was writing `a.txt`."""
    if os.name != "posix":
        pytest.skip("kills are POSIX's")
    subprocess.run([sys.executable, "-c", BEGUN, str(tmp_path / "a.txt")], check=False)
    assert len(partial(tmp_path)) == 1
    return tmp_path


def partial(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*"))


def age(folder: Path) -> None:
    """As if it had been a while."""
    for path in partial(folder):
        os.utime(path, (path.stat().st_mtime - FORSAKEN - 1,) * 2)


def write(path: Path) -> None:
    with atomic(path) as temporary:
        temporary.write_text("whole")


def test_what_a_kill_left_goes_an_hour_later(killed):
    write(killed / "a.txt")
    assert len(partial(killed)) == 1, "somebody may be writing it"
    age(killed)
    for other in ("b.txt", "a.md", "a.b.txt"):
        write(killed / other)
        assert len(partial(killed)) == 1, "it is of another file"
    write(killed / "a.txt")
    assert partial(killed) == []
    assert (killed / "a.txt").read_text() == "whole"


def test_files_of_people_stay(tmp_path):
    for name in (".a.txt", ".a.0123.txt", f".a.{'g' * 32}.txt", f"a.{'0' * 32}.txt"):
        (tmp_path / name).touch()
    age(tmp_path)
    write(tmp_path / "a.txt")
    assert len(list(tmp_path.iterdir())) == 5
