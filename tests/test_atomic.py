"""Files that are complete or not there, and what a kill leaves of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from speechprune_cli.atomic import RECENT, atomic

BEGUN = """
import sys, time
from pathlib import Path
from speechprune_cli.atomic import atomic
with atomic(Path(sys.argv[1])) as path:
    path.write_text("half")
    print("begun", flush=True)
    time.sleep(600)
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks of open files are POSIX's")


@pytest.fixture
def begun(tmp_path):
    """Processes that write `a.txt`, and do not end."""
    processes = []

    def start() -> subprocess.Popen:
        command = [sys.executable, "-c", BEGUN, str(tmp_path / "a.txt")]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "begun\n"
        return processes[-1]

    yield start
    for each in processes:
        each.kill()
        each.wait()


def partial(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*"))


def age(folder: Path) -> None:
    """As if it had been a while."""
    for path in partial(folder):
        os.utime(path, (path.stat().st_mtime - RECENT - 1,) * 2)


def write(path: Path) -> None:
    with atomic(path) as temporary:
        temporary.write_text("whole")


def test_what_a_kill_left_goes_with_the_next(begun, tmp_path):
    process = begun()
    process.kill()
    process.wait()
    assert len(partial(tmp_path)) == 1
    age(tmp_path)
    for other in ("b.txt", "a.md", "a.b.txt"):
        write(tmp_path / other)
        assert len(partial(tmp_path)) == 1, "it is of another file"
    write(tmp_path / "a.txt")
    assert partial(tmp_path) == []
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_what_others_are_writing_stays(begun, tmp_path):
    begun()
    age(tmp_path)
    write(tmp_path / "a.txt")
    assert len(partial(tmp_path)) == 1


def test_files_of_people_stay(tmp_path):
    for name in (".a.txt", ".a.0123.txt", f".a.{'g' * 32}.txt", f"a.{'0' * 32}.txt"):
        (tmp_path / name).touch()
    age(tmp_path)
    write(tmp_path / "a.txt")
    assert len(list(tmp_path.iterdir())) == 5
