"""A build's folder: the plan first, a file per sample as it is made, the index last.

    build.json            every choice, the voices' files and all versions
    audio/ or spiral/     recordings, as the layout wants them
    samples/000.json      brief, script, times of all sentences, measures
    index.jsonl           or data.jsonl: written last, so that its existence says: complete
    README.md             the card; report.md and report.png say whether the set is fair

A kill at any moment costs at most the sample that was being made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from speechprune_cli.atomic import atomic, locked, sweep
from speechprune_cli.builder.checks import CHECKS
from speechprune_cli.builder.plan import Plan
from speechprune_cli.builder.script import Sample
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.version import __version__


@dataclass(frozen=True)
class BuildFolder:
    """A folder that holds one build."""

    folder: Path

    @contextmanager
    def opened(self, plan: Plan, sources: dict[str, str]) -> Iterator[None]:
        """Begin, or go on with what the same plan has begun. Raises UsageError for another one."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._refuse_another()
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be written: {error.strerror}") from error
        with locked(self.folder, "build"):
            self._claim(plan, sources)
            (self.folder / "samples").mkdir(exist_ok=True)
            sweep(self.folder)
            yield

    def _refuse_another(self) -> None:
        """Leave alone, without so much as a lock, what is no build."""
        found = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
        if found and "build.json" not in found:
            raise UsageError(f"{self.folder}: not empty, and no build: it holds {min(found)}")

    def _claim(self, plan: Plan, sources: dict[str, str]) -> None:
        path = self.folder / "build.json"
        if not path.exists():
            chosen = plan.model_dump(mode="json")
            described = {"version": __version__, "plan": chosen, "sources": sources}
            self.write_text("build.json", json.dumps(described, indent=2) + "\n")
            return
        try:
            saved = json.loads(path.read_text("utf-8"))
            version, spoken = saved["version"], saved["sources"]
            begun = Plan.model_validate(saved["plan"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: not what a build writes: {error}") from error
        was, anew = f"{self.folder} was begun", "build into a new folder"
        if version != __version__:
            raise UsageError(f"{was} by speechprune {version}, this is {__version__}: {anew}")
        aside = {name for check in CHECKS.names for name in CHECKS.settings(check)}
        if differ := "; ".join(begun.differences(plan, aside)):
            raise UsageError(f"{was} with other settings ({differ}): go on with those, or {anew}")
        if spoken != sources:
            raise UsageError(f"{was} with other voices or versions: {anew}")

    def path(self, number: int) -> Path:
        """Where a sample is."""
        return self.folder / "samples" / f"{number:03d}.json"

    def read(self, number: int) -> Sample | None:
        """A sample as far as it is made. Raises UsageError for a file that is none."""
        path = self.path(number)
        try:
            return Sample.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise UsageError(f"{path}: not a sample; delete it to make it again") from error

    def write(self, sample: Sample) -> None:
        """Whole or not at all. Raises SpeechPruneError where the disk is full."""
        name = self.path(sample.brief.number).name
        self.write_text(f"samples/{name}", sample.model_dump_json(indent=1))

    def write_text(self, name: str, text: str) -> None:
        """A file of the build, whole or not at all."""
        with atomic(self.folder / name) as path:
            path.write_text(text, encoding="utf-8")

    def progress(self, count: int) -> str:
        """How much there is, for who has to go on with it."""
        written = self._written(count)
        spoken = sum(sample.speech is not None for sample in written)
        return f"of {count} samples {len(written)} are written and {spoken} spoken: they are kept"

    def samples(self, count: int) -> list[Sample]:
        """All samples, once they are spoken. Raises SpeechPruneError where one is not."""
        whole = [sample for sample in self._written(count) if sample.speech is not None]
        if len(whole) < count:
            raise SpeechPruneError(f"{self.folder}: {count - len(whole)} samples are missing")
        return whole

    def _written(self, count: int) -> list[Sample]:
        found = (self.read(number) for number in range(count))
        return [sample for sample in found if sample is not None]
