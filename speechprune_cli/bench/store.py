"""A run's folder: configuration first, one line per answer as it is made, results last.

    run.json            what was run: format, version, plan, benchmark, samples
    environment.json    on what: device, dtype, attention, versions, a prompt as rendered
    lines.jsonl         one line per sample and condition (`line.py`), synced before it counts
    results.md, .csv    tables for people and for spreadsheets
    hard.txt            samples where `original` fails, for `--derive-hard`
    results.json        all tables; written last, so that its existence says: complete

The first two hold the SHA-256 of their own content without it, as JSON with sorted keys and no
blanks. A kill at any moment leaves at worst half a line at the end, which the next run cuts off.
Runs of format 1 (before 0.2, no checks) can be read, not gone on with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechprune_cli.atomic import PARTIAL, atomic, locked, sync
from speechprune_cli.bench.line import FORMAT, Line
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.errors import SpeechPruneError, UsageError, one_line
from speechprune_cli.escaping import json_text
from speechprune_cli.version import __version__

RESULTS = ("results.json", "results.csv", "results.md", "hard.txt")


@dataclass(frozen=True)
class Run:
    """A folder that holds one run."""

    folder: Path

    @property
    def lines_path(self) -> Path:
        """Where the answers are."""
        return self.folder / "lines.jsonl"

    def create(
        self, plan: Plan, benchmark: Benchmark, samples: Sequence[str], *, limited: bool
    ) -> None:
        """Begin a run. Raises UsageError where the folder holds something already."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--output {self.folder}: {error.strerror}") from error
        with locked(self.folder, "run"):
            self._check_empty()
            content = {
                "format": FORMAT,
                "version": __version__,
                "plan": asdict(plan),
                "benchmark": {"source": benchmark.source, "fingerprint": benchmark.fingerprint},
                "samples": list(samples),
                "limited": limited,
            }
            self._write_sealed("run.json", content)

    def _check_empty(self) -> None:
        """What a kill left of `run.json` is removed."""
        if (self.folder / "run.json").exists():
            raise UsageError(f"{self.folder} holds a run: go on with --resume {self.folder}")
        found = [path for path in self.folder.iterdir() if path.name != ".lock"]
        if any(not PARTIAL.fullmatch(path.name) for path in found):
            raise UsageError(f"--output {self.folder}: the folder is not empty")
        for path in found:
            path.unlink()

    def read(self) -> dict[str, Any]:
        """What `create` wrote. Raises UsageError where it is gone, damaged or of another format."""
        path = self.folder / "run.json"
        saved = _read_json(path, f"{self.folder} holds no run: there is no run.json in it")
        found = saved.setdefault("format", 1)
        if found not in (1, FORMAT):
            raise UsageError(f"{path}: its format {found!r} is not known here: update speechprune")
        return saved if found == 1 else _unsealed(path, saved)

    def read_to_resume(self) -> dict[str, Any]:
        """The same. Raises UsageError too where another version would answer differently."""
        saved = self.read()
        if (saved["format"], saved.get("version")) != (FORMAT, __version__):
            raise UsageError(
                f"{self.folder} was made by speechprune {saved.get('version')}, this is "
                f"{__version__}, whose answers may differ: begin a new run"
            )
        return saved

    def lines(self) -> list[Line]:
        """Answers so far. Raises UsageError naming the first line that is no answer."""
        if not self.lines_path.exists():
            return []
        old = (self.folder / "run.json").exists() and self.read()["format"] == 1
        try:
            parts = self.lines_path.read_bytes().split(b"\n")[:-1]
        except OSError as error:
            raise UsageError(f"{self.lines_path}: cannot be read: {_reason(error)}") from error
        return [
            Line.from_json(part, f"{self.lines_path}:{number}", old=old)
            for number, part in enumerate(parts, start=1)
        ]

    def check_recordings(self, samples: Iterable[Sample], lines: Iterable[Line]) -> None:
        """Raise UsageError where a recording that is still there is not the one asked about."""
        heard = {line.sample: line.audio_sha256 for line in lines if line.answered}
        asked = [each for each in samples if each.id in heard and each.audio.is_file()]
        for path, before in dict.fromkeys((each.audio, heard[each.id]) for each in asked):
            with path.open("rb") as file:
                now = hashlib.file_digest(file, "sha256").hexdigest()
            if now != before:
                raise UsageError(
                    f"{path} has changed since {self.folder} asked about it: "
                    "put it back, or begin a new run"
                )

    def forget_results(self) -> None:
        """Remove what is written last, before there are more lines."""
        for name in RESULTS:
            (self.folder / name).unlink(missing_ok=True)

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Say what the run is made on. Raises UsageError where it was begun on something else."""
        path = self.folder / "environment.json"
        if path.exists():
            before = self.environment()
            for part, told in (("model", _weights), ("server", _reading)):
                now = told(environment)
                for what, then in told(before).items():
                    if then != now[what]:
                        change = f"{what}: {then}, not {now[what]}"
                        raise UsageError(f"{self.folder} was begun with another {part}, {change}")
        self._write_sealed("environment.json", environment)

    def environment(self) -> dict[str, Any]:
        """What the run is made on, as it was written. Raises UsageError where that is damaged."""
        path = self.folder / "environment.json"
        return _unsealed(path, _read_json(path, f"{path} is gone"))

    def _write_sealed(self, name: str, content: dict[str, Any]) -> None:
        self.write_json(name, {**content, "sha256": _digest(content)})

    def write_json(self, name: str, content: Any) -> None:
        """Write a file of the run, whole or not at all."""
        self.write_text(name, json_text(content, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run, whole or not at all."""
        with atomic(self.folder / name) as path:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")

    @contextmanager
    def appending(self) -> Iterator[Appender]:
        """Where lines go; half a line that a kill left is cut off first."""
        try:
            file = os.open(self.lines_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            sync(self.folder)
        except OSError as error:
            raise SpeechPruneError(f"cannot write {self.lines_path}: {error.strerror}") from error
        try:
            yield Appender(self.lines_path, file)
        finally:
            os.close(file)


class Appender:
    """Writes whole lines, or none. Drops what follows the last line break of an open file first."""

    def __init__(self, path: Path, file: int) -> None:
        self.path, self.file = path, file
        self.size = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(file, self.size)

    def write(self, line: Line) -> None:
        """Append one line, on the disk at the end. Raises SpeechPruneError where that is full."""
        row = line.to_json()
        try:
            whole = os.write(self.file, row) == len(row)
            os.fsync(self.file)
            reason = "" if whole else "the disk is full"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            os.ftruncate(self.file, self.size)
            raise SpeechPruneError(
                f"cannot write {self.path}: {reason}; what was measured is kept, "
                f"go on with --resume {self.path.parent}"
            )
        self.size += len(row)


def _read_json(path: Path, absent: str) -> dict[str, Any]:
    """The object in a file. Raises UsageError, with the words `absent` where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(absent) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: not what a run writes")
    return content


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or one_line(error)


def _unsealed(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content of a file that holds its own SHA-256. Raises UsageError where that is not so."""
    if "sha256" not in content:
        raise UsageError(f"{path}: the key 'sha256' is missing")
    try:
        sound = content.pop("sha256") == _digest(content)
    except ValueError:  # numbers that JSON does not have
        sound = False
    if not sound:
        raise UsageError(f"{path}: damaged or edited: it is not what its key 'sha256' says")
    return content


def _digest(content: dict[str, Any]) -> str:
    canonical = json_text(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _weights(environment: dict[str, Any]) -> dict[str, Any]:
    """What the weights were, by what says so."""
    model = environment["model"]
    return {
        "the model's files": model["revision"],
        "--dtype": model["dtype"],
        "--quantize": environment["quantize"],
        "who writes the transcripts": environment.get("recogniser"),
    }


def _reading(environment: dict[str, Any]) -> dict[str, Any]:
    """How prompts were read, by what says so; of the model itself nothing."""
    server = environment.get("server") or {}
    return {
        "its engine": server.get("engine"),
        "prompts go there as": server.get("prompts"),
        "options are told apart by": server.get("options"),
    }
