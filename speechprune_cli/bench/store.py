"""A run's folder: configuration first, one line per answer as it is made, results last.

    run.json            what was run: plan, version, benchmark, samples
    environment.json    on what: device, dtype, attention, versions, a prompt as rendered
    lines.jsonl         one line per sample and condition, flushed as it is made
    results.md, .csv    tables for people and for spreadsheets
    hard.txt            samples where `original` fails, for `--derive-hard`
    results.json        all tables; written last, so that its existence says: complete

A kill at any moment leaves at worst half a line at the end, which the next run cuts off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechprune_cli import __version__
from speechprune_cli.atomic import PARTIAL, atomic, locked
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.errors import SpeechPruneError, UsageError


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
            if (self.folder / "run.json").exists():
                raise UsageError(f"{self.folder} holds a run: go on with --resume {self.folder}")
            found = [path for path in self.folder.iterdir() if path.name != ".lock"]
            if any(not PARTIAL.fullmatch(path.name) for path in found):
                raise UsageError(f"--output {self.folder}: the folder is not empty")
            for path in found:
                path.unlink()
            self.write_json(
                "run.json",
                {
                    "version": __version__,
                    "plan": plan.to_json(),
                    "benchmark": {"source": benchmark.source, "fingerprint": benchmark.fingerprint},
                    "samples": list(samples),
                    "limited": limited,
                },
            )

    def read(self) -> dict[str, Any]:
        """What `create` wrote. Raises UsageError where there is none, or another version's."""
        path = self.folder / "run.json"
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"{self.folder} holds no run: there is no run.json in it") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read: {error}") from error
        if not isinstance(saved, dict):
            raise UsageError(f"{path}: not what a run writes")
        if saved.get("version") != __version__:
            raise UsageError(
                f"{self.folder} was made by speechprune {saved.get('version')}, this is "
                f"{__version__}: begin a new run"
            )
        return saved

    def lines(self) -> list[dict[str, Any]]:
        """Answers so far."""
        if not self.lines_path.exists():
            return []
        parts = self.lines_path.read_bytes().split(b"\n")[:-1]
        try:
            return [json.loads(part) for part in parts]
        except ValueError as error:
            raise UsageError(f"{self.lines_path}: not what a run writes: {error}") from error

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Say what the run is made on. Raises UsageError where it was begun with another model."""
        path = self.folder / "environment.json"
        if path.exists():
            begun = json.loads(path.read_text(encoding="utf-8"))
            for what, before, now in (
                ("the model's files", begun["model"]["revision"], environment["model"]["revision"]),
                ("--dtype", begun["model"]["dtype"], environment["model"]["dtype"]),
                ("--quantize", begun["quantize"], environment["quantize"]),
            ):
                if before != now:
                    raise UsageError(
                        f"{self.folder} was begun with another model, {what}: {before}, not {now}"
                    )
        self.write_json("environment.json", environment)

    def write_json(self, name: str, content: Any) -> None:
        """Write a file of the run, whole or not at all."""
        self.write_text(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run, whole or not at all."""
        with atomic(self.folder / name) as path:
            path.write_text(text, encoding="utf-8")

    @contextmanager
    def appending(self) -> Iterator[Appender]:
        """Where lines go; half a line that a kill left is cut off first."""
        try:
            file = os.open(self.lines_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise SpeechPruneError(f"cannot write {self.lines_path}: {error.strerror}") from error
        try:
            appender = Appender(self.lines_path, file)
            appender.cut()
            yield appender
        finally:
            os.close(file)


class Appender:
    """Writes whole lines, or none."""

    def __init__(self, path: Path, file: int) -> None:
        self.path, self.file = path, file
        self.size = 0

    def cut(self) -> None:
        """Drop what follows the last line break."""
        content = self.path.read_bytes()
        self.size = content.rfind(b"\n") + 1
        os.ftruncate(self.file, self.size)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line. Raises SpeechPruneError where the disk is full, all before it kept."""
        row = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            written = os.write(self.file, row)
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from error
        if written < len(row):
            os.ftruncate(self.file, self.size)
            raise self._failed("the disk is full")
        self.size += len(row)

    def _failed(self, reason: str) -> SpeechPruneError:
        folder = self.path.parent
        return SpeechPruneError(
            f"cannot write {self.path}: {reason}; what was measured is kept, "
            f"go on with --resume {folder}"
        )
