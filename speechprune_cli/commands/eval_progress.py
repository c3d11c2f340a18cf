"""What a terminal shows of a run at work."""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING

from speechprune_cli.bench.conditions import REFERENCES
from speechprune_cli.bench.run import Observer, OpenRun
from speechprune_cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechprune_cli.bench.line import Line
    from speechprune_cli.output import OnProgress


class EvaluationProgress(Observer):
    """A bar with the rate and the running accuracy of the first condition that is measured."""

    def __init__(self, out: Output) -> None:
        self.out, self.bar = out, ExitStack()
        self.run: OpenRun | None = None
        self.on_progress: OnProgress | None = None
        self.answered, self.resumed_at, self.started = 0, 0, 0.0
        self.watched, self.right = "", list[float]()
        self.warned: set[str] = set()

    def __enter__(self) -> EvaluationProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.close()
        if kind is KeyboardInterrupt and self.run:
            folder = self.run.run.folder
            self.out.warning(f"interrupted: go on with speechprune eval --resume {folder}")

    def on_note(self, message: str) -> None:
        """As a note."""
        self.out.note(message)

    def on_warning(self, message: str) -> None:
        """As one."""
        self.out.warning(message)

    def on_estimate(self, message: str) -> None:
        """In logs too."""
        self.out.beginning(message)

    def on_begin(self, run: OpenRun, lines: Sequence[Line]) -> None:
        """Draw the bar, as far as the run is already."""
        self.run = run
        self.on_progress = self.bar.enter_context(self.out.progress(run.benchmark.name))
        names = [condition.name for condition in run.plan.conditions]
        self.watched = next(iter(names[len(REFERENCES) :]), names[0])
        self.started = perf_counter()
        for line in lines:
            if line.answered:
                self.on_line(line)
        self.resumed_at, self.started = self.answered, perf_counter()

    def on_line(self, line: Line) -> None:
        """Move the bar; the first failure of each sample is a warning."""
        self.answered += 1
        if not line.answered and line.sample not in self.warned:
            self.warned.add(line.sample)
            self.out.warning(f"{line.sample}: {line.error}")
        if line.correct is not None and line.answered and line.condition == self.watched:
            self.right.append(line.correct)
        rate = (self.answered - self.resumed_at) / (perf_counter() - self.started)
        note = f"{rate:.1f} answers/s  "
        if self.right:
            note += f"{self.watched}: {100 * sum(self.right) / len(self.right):.1f}% right"
        if self.run and self.on_progress:
            self.on_progress(self.answered, self.run.asked, note)
