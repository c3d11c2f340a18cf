"""Command lines in processes of their own, forked from the one that tests.

A fork takes a tenth of a second where a new interpreter takes several, and is as much a process:
what it writes, how it ends, how long it takes and how much memory are seen from outside.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from robustness.dying import Death

FORKS = multiprocessing.get_context("fork")
MEMORY = 2 << 30  # bytes above those of the interpreter with all libraries
CPU_SECONDS = 60
PATIENCE = 180  # seconds, on a busy machine
LARGEST_FILE = 1 << 30


@dataclass(frozen=True)
class Job:
    """A command line, where it runs, and what befalls it."""

    arguments: Sequence[str]
    folder: Path  # where it is started
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: Path | None = None
    prepare: Callable[[], None] = lambda: None  # in the fork, before the command
    kill_after: float | None = None  # seconds
    death: Death | None = None  # at a file operation
    memory: int = MEMORY
    patience: float = PATIENCE


@dataclass(frozen=True)
class Outcome:
    """How a process ended. A negative exit code is the signal that ended it."""

    code: int
    out: bytes
    err: bytes
    seconds: float
    megabytes: float  # that it took at most, above what it began with; 0 where it was killed
    operations: int  # on files, where it was to die at one; 0 where it did

    @cached_property
    def lines(self) -> list[str]:
        """Of standard error."""
        return self.err.decode(errors="backslashreplace").split("\n")


def run(job: Job) -> Outcome:
    """To its end, or to the one that the job names."""
    return run_together([job])[0]


def run_together(jobs: Sequence[Job]) -> list[Outcome]:
    """All at once."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / str(number) for number in range(len(jobs))]
        for each in streams:
            each.mkdir()
            for name in ("out", "err"):
                (each / name).touch()
        processes = [
            FORKS.Process(target=_work, args=(job, each))
            for job, each in zip(jobs, streams, strict=True)
        ]
        began = time.monotonic()
        for process in processes:
            process.start()
        return [
            _ended(job, process, each, began)
            for job, process, each in zip(jobs, processes, streams, strict=True)
        ]


def run_alone(job: Job) -> Outcome:
    """By an interpreter that is started for it, as a user would; its memory counts as a whole."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = started(job, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        said = [file.seek(0) or file.read() for file in (out, err)]
    return Outcome(code, *said, seconds, usage.ru_maxrss / 1024, 0)


def started(job: Job, **streams: Any) -> subprocess.Popen[bytes]:
    """The interpreter, with the code of this checkout."""
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join([source, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    return subprocess.Popen(
        [sys.executable, "-m", "speechprune_cli", *job.arguments],
        cwd=job.folder,
        env={**os.environ, **job.environment, "PYTHONPATH": path},
        stdin=job.stdin.open("rb") if job.stdin else subprocess.DEVNULL,
        **streams,
    )


def _ended(job: Job, process: Any, streams: Path, began: float) -> Outcome:
    process.join(job.patience if job.kill_after is None else job.kill_after)
    if process.exitcode is None:
        process.kill()
        process.join()
    seconds = time.monotonic() - began
    told = streams / "told.json"
    numbers = json.loads(told.read_text()) if told.exists() else [0.0, 0]
    out, err = ((streams / name).read_bytes() for name in ("out", "err"))
    return Outcome(process.exitcode, out, err, seconds, *numbers)


def _work(job: Job, streams: Path) -> None:
    """In the fork: with its own streams, folder, environment and limits."""
    import torch

    torch.set_num_threads(1)  # the others are not in the fork
    os.chdir(job.folder)
    os.environ.update(job.environment)
    tempfile.tempdir = None  # let TMPDIR be asked again
    _redirect(job.stdin, streams)
    before = _peak_megabytes()
    _limit(job)
    job.prepare()
    operations = job.death.lie_in_wait() if job.death else None
    code = _main(list(job.arguments))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    told = [_peak_megabytes() - before, operations.count if operations else 0]
    (streams / "told.json").write_text(json.dumps(told))
    os._exit(code)


def _main(arguments: list[str]) -> int:
    """As the interpreter would end it: an exception is shown, and 1."""
    from speechprune_cli.main import main

    sys.argv = ["speechprune", *arguments]
    try:
        return main(arguments)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it is
        traceback.print_exc()
        return 1


def _redirect(stdin: Path | None, streams: Path) -> None:
    opened = (
        os.open(stdin or os.devnull, os.O_RDONLY),
        os.open(streams / "out", os.O_WRONLY),
        os.open(streams / "err", os.O_WRONLY),
    )
    for number, file in enumerate(opened):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", errors=how, closefd=False)  # noqa: SIM115
        for number, how in ((1, "strict"), (2, "backslashreplace"))
    )


def _limit(job: Job) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + job.memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if job.death is None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
