"""A case: files in a folder of its own, one of them changed, a command line, and what must hold."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from robustness.mutator import mutated_text
from robustness.workers import Job, Outcome, run, run_alone

Files = Mapping[str, bytes | Path]
"""Contents by their paths in a box, or the folder that is copied there."""
UNFINISHED = re.compile(r"\.[^/]*\.[0-9a-f]{32}\.\w+$|\.tmp$")
FONTS = str(Path(tempfile.gettempdir()) / "speechprune-robustness-fonts")  # found once for all
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FOLDERS = ("work", "home", "tmp", "cache", "config")
LONGEST_LINE = 1500  # characters
USUAL = ("cache/", "config/")  # where a command may leave files that are whole
MADE = "work/made"  # how the names of files begin that a command was asked for


@dataclass(frozen=True)
class Target:
    """What is attacked, and which exit codes are right."""

    name: str
    command: Sequence[str]  # started in `work`
    files: Files
    victim: str  # the file that is changed
    codes: Collection[int]
    change: Callable[[bytes, Random], bytes] = mutated_text
    stdin: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    made: Sequence[str] = (MADE,)  # what new paths may begin with, beside those in `USUAL`
    prepare: Callable[[], None] = lambda: None  # in the fork
    also: Callable[[Path], list[str]] = lambda _: []  # what else is wrong in the box afterwards


@dataclass
class Tally:
    """What a group of cases has come to."""

    codes: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0  # the longest
    megabytes: float = 0.0  # the most

    def add(self, name: str, outcome: Outcome, faults: Sequence[str]) -> None:
        """One more."""
        self.codes[outcome.code] += 1
        self.seconds = max(self.seconds, outcome.seconds)
        self.megabytes = max(self.megabytes, outcome.megabytes)
        if faults:
            shown = outcome.err[-1500:].decode(errors="backslashreplace")
            self.faults.append(f"{name}: {'; '.join(faults)}\n{shown}")

    @property
    def tried(self) -> int:
        """How many cases there were."""
        return sum(self.codes.values())


def play(target: Target, number: str, random: Random, folder: Path, tally: Tally) -> None:
    """Change the victim and run the command; a box without faults is removed."""
    box = folder / number
    job = set_up(target, box)
    victim = box / target.victim
    victim.write_bytes(target.change(victim.read_bytes(), random))
    before = _paths(box)
    outcome = run(job)
    found = faults(outcome, target.codes, _paths(box) - before, target.made) + target.also(box)
    tally.add(f"{box} {target.name}", outcome, found)
    if not found:
        shutil.rmtree(box)


def alike_alone(target: Target, number: str, random: Random, folder: Path) -> list[str]:
    """What differs where an interpreter is started for the same case; times in its output may."""
    outcomes = []
    for way in (run, run_alone):
        box = folder / number
        job = set_up(target, box)
        victim, state = box / target.victim, random.getstate()
        victim.write_bytes(target.change(victim.read_bytes(), random))
        random.setstate(state)
        outcomes.append(way(job))
        shutil.rmtree(box)
    fork, alone = outcomes
    same = (fork.code, len(fork.out) > 0, fork.err) == (alone.code, len(alone.out) > 0, alone.err)
    return [] if same else [f"{target.name} {number}: {fork} but {alone}"]


def set_up(target: Target, box: Path) -> Job:
    """What is run, in a box with its files."""
    job = new_box(box, target.files)
    return replace(
        job,
        arguments=target.command,
        environment={**job.environment, **target.environment},
        stdin=box / target.stdin if target.stdin else None,
        prepare=target.prepare,
    )


def new_box(box: Path, files: Files) -> Job:
    """No command yet, with folders of its own for all that it may write."""
    for name in FOLDERS:
        (box / name).mkdir(parents=True)
    for name, content in files.items():
        path = box / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copytree(content, path, dirs_exist_ok=True)
    environment = {
        "HOME": str(box / "home"),
        "MPLCONFIGDIR": FONTS,
        "TMPDIR": str(box / "tmp"),
        "SPEECHPRUNE_CACHE_DIR": str(box / "cache"),
        "SPEECHPRUNE_CONFIG_DIR": str(box / "config"),
    }
    return Job((), box / "work", environment)


def faults(
    outcome: Outcome, codes: Collection[int], new: Collection[str], made: Sequence[str] = (MADE,)
) -> list[str]:
    """What is not as it must be: exit code, lines, files left behind."""
    found = []
    *lines, rest = outcome.lines
    errors = [line for line in lines if line.startswith("error: ")]
    if outcome.code not in codes:
        found.append(f"exit code {outcome.code}")
    if b"Traceback" in outcome.err:
        found.append("traceback")
    elif rest or any(not line.startswith(("error: ", "warning: ")) for line in lines):
        found.append("a line that is neither warning nor error")
    if outcome.code > 1 and (len(errors) != 1 or lines[-1] != errors[0]):
        found.append("not one error, at the end")
    if outcome.code == 0 and errors:
        found.append("an error with exit code 0")
    if outcome.code > 1 and outcome.out:
        found.append("output of what failed")
    if any(len(line) > LONGEST_LINE for line in lines):
        found.append("a line of a page")
    if CONTROL.search("".join(lines)):
        found.append("control characters")
    left = sorted(path for path in new if not _may_be_new(path, made))
    return found + ([f"left behind: {left[:5]}"] if left else [])


def _may_be_new(path: str, made: Sequence[str]) -> bool:
    return not UNFINISHED.search(path) and path.startswith((*USUAL, *made))


def _paths(box: Path) -> set[str]:
    return {str(path.relative_to(box)) for path in box.rglob("*")}
