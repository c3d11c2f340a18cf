"""Builds a benchmark: `build` is the Python API, and what `speechprune build` does.

Choices are settled first, so that nothing is made in vain; then all scripts are written, spoken and
measured; report, card and, last, the index follow.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from pydantic import ValidationError

from speechprune_cli.builder import making, report
from speechprune_cli.builder.checks import CHECKS
from speechprune_cli.builder.fairness import Verdict, verdicts
from speechprune_cli.builder.layouts import LAYOUTS
from speechprune_cli.builder.plan import Choices, Plan
from speechprune_cli.builder.speakers import SPEAKERS
from speechprune_cli.builder.speakers.base import OnProgress
from speechprune_cli.builder.store import BuildFolder
from speechprune_cli.builder.workers import in_this_process, on_ray
from speechprune_cli.builder.writers import WRITERS
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.extras import need
from speechprune_cli.report.figures import check_drawable
from speechprune_cli.validation import explain

log = logging.getLogger("speechprune")
PACKAGES = ("num2words", "scipy", "rapidfuzz", "pyloudnorm")  # what every build needs of its extra
ALWAYS = "sound"  # the check that the verdicts on a set rest on


@dataclass(frozen=True)
class Built:
    """A finished benchmark."""

    folder: Path
    samples: int
    verdicts: tuple[Verdict, ...]
    licence: str  # of the voices
    evaluation: str  # the command that evaluates on it

    @property
    def skewed(self) -> tuple[str, ...]:
        """Names of what is not fair."""
        return tuple(verdict.name for verdict in self.verdicts if verdict.fair is False)


def build(
    folder: str | Path,
    *,
    checks: Sequence[str] | None = None,
    workers: int = 1,
    ray: str | None = None,
    on_progress: OnProgress = lambda done, total, note: None,
    **choices: Unpack[Choices],
) -> Built:
    """Make a spoken benchmark like SPIRAL in `folder`; the same call goes on after an interrupt.

    `choices` are those of a `Plan` (`builder/plan.py`), such as `samples=100, seconds=90`; one that
    is None is left to the plan. `checks` names what is measured besides sound, by default what is
    installed. `workers` processes are Ray's where there are several, on the cluster at `ray` if
    that is given. `on_progress` is told how much is done, of how much, and of what, first of
    writing, then of speaking. Raises UsageError for choices that cannot be, SpeechPruneError where
    a sample cannot be made; what is made is kept.
    """
    plan = settle(choices)
    measured = choose_checks(checks, plan)
    check_drawable("speechprune build", "matplotlib")
    speaker = SPEAKERS.make_of(plan.speaker, plan.settings)
    speaker.check()
    making.choose_voices(speaker, plan)
    WRITERS.make_of(plan.writer, plan.settings).check()
    store = BuildFolder(Path(folder))
    with store.opened(plan, making.sources(speaker)):
        try:
            _follow(making.write_scripts(store, plan), "writing", 0, plan.samples, on_progress)
            todo = making.unfinished(store, plan, measured)
            jobs = (  # sound is read when its turn comes
                making.Job(sample, missing, path.read_bytes() if path else None)
                for sample, missing, path in todo
            )
            alone = workers == 1 and ray is None
            done = in_this_process(plan, jobs) if alone else on_ray(plan, jobs, workers, ray)
            begun = plan.samples - len(todo)
            _follow(making.keep(store, done), "speaking", begun, plan.samples, on_progress)
        except SpeechPruneError as error:
            error.args = (f"{error} ({store.progress(plan.samples)})",)
            raise
        return _finish(store, plan, speaker.licence)


def fetch_voices(speaker: str, voices_folder: str, on_progress: OnProgress) -> Path:
    """Get a speaker's files, by default into the cache; the folder. Raises as `Speaker.fetch`."""
    return SPEAKERS.make_of(speaker, {"voices_folder": voices_folder}).fetch(on_progress)


def settle(choices: Choices) -> Plan:
    """A valid plan. Raises UsageError, which names the option or the package that is missing."""
    for package in PACKAGES:
        need(package, "speechprune build", "build")
    given: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
    formats = LAYOUTS.make(given.get("layout", "jsonl"), {}).formats
    try:
        plan = Plan(**{"format": formats[0], **given})
    except ValidationError as error:
        raise UsageError(explain(error, lambda _: list(Plan.model_fields))) from error
    if plan.format not in formats:
        raise UsageError(f"--format {plan.format}: the layout {plan.layout} wants {formats[0]}")
    known = WRITERS.settings(plan.writer) | SPEAKERS.settings(plan.speaker)
    known |= {name for check in CHECKS.names for name in CHECKS.settings(check)}
    if unknown := sorted(set(plan.settings) - known):
        listed = ", ".join(sorted(known - {"voices_folder"}))
        option = "--voices" if unknown[0] == "voices_folder" else f"--set {unknown[0]}"
        raise UsageError(f"{option}: {plan.writer} and {plan.speaker} know {listed}")
    return plan


def choose_checks(wanted: Sequence[str] | None, plan: Plan) -> tuple[str, ...]:
    """What to measure: what is `wanted`, or all that is installed, with a warning for the rest.

    Raises UsageError where what is wanted is not installed.
    """
    CHECKS.make_of(ALWAYS, plan.settings).check()
    found = {ALWAYS: None}
    for name in CHECKS.names if wanted is None else wanted:
        try:
            CHECKS.make_of(name, plan.settings).check()
            found[name] = None
        except UsageError as error:
            if wanted is not None:
                raise
            log.warning("%s; not measured", error)
    return tuple(found)


def _follow(made: Iterable[str], what: str, begun: int, total: int, tell: OnProgress) -> None:
    """Have it made, and tell how far it is."""
    for count, name in enumerate(made, start=begun + 1):
        tell(count, total, f"{what} {name}")


def _finish(store: BuildFolder, plan: Plan, licence: str) -> Built:
    """Write picture, report, card and, last, the index."""
    samples, how = store.samples(plan.samples), LAYOUTS.make(plan.layout, {})
    found = verdicts(samples, plan)
    report.picture(found, samples, store.folder / "report.png")
    store.write_text("report.md", report.markdown(found, samples))
    store.write_text("README.md", report.card(found, samples, plan, licence))
    lines = [json.dumps(how.line(s, plan.format), ensure_ascii=False) for s in samples]
    store.write_text(how.index, "".join(f"{line}\n" for line in lines))
    evaluation = how.evaluation.format(folder=store.folder)
    return Built(store.folder, len(samples), tuple(found), licence, evaluation)
