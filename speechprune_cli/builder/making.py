"""Makes what a build still lacks: all scripts first, then speech and measures sample by sample."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from speechprune_cli.atomic import atomic
from speechprune_cli.builder.checks import CHECKS
from speechprune_cli.builder.checks.base import Measure
from speechprune_cli.builder.layouts import LAYOUTS
from speechprune_cli.builder.plan import Plan
from speechprune_cli.builder.script import Sample
from speechprune_cli.builder.speakers import SPEAKERS
from speechprune_cli.builder.speakers.base import Speaker, Voice
from speechprune_cli.builder.store import BuildFolder
from speechprune_cli.builder.topics import PEOPLE, briefs
from speechprune_cli.builder.writers import WRITERS
from speechprune_cli.errors import SpeechPruneError, UsageError

PACKAGES = ("kokoro-onnx", "piper-tts", "onnxruntime", "numpy", "scipy", "soxr", "soundfile",
            "pyloudnorm", "num2words", "av")  # fmt: skip
"""Whose versions the bytes of a build may depend on."""


@dataclass(frozen=True)
class Job:
    """A sample to speak, or to measure where it is spoken."""

    sample: Sample
    checks: tuple[str, ...]  # what is still to be measured
    sound: bytes | None  # the recording's file where there is one


@dataclass(frozen=True)
class Done:
    """A sample with speech and measures, and its files by path."""

    sample: Sample
    files: dict[str, bytes]


class Maker:
    """Does jobs; models are loaded when the first job needs them."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.layout = plan, LAYOUTS.make(plan.layout, {})
        self._measures: dict[str, Measure] = {}

    @cached_property
    def speaker(self) -> Speaker:
        """As the plan has it."""
        return SPEAKERS.make_of(self.plan.speaker, self.plan.settings)

    @cached_property
    def synthesizer(self):
        """The speaker, loaded."""
        return self.speaker.load()

    def make(self, job: Job) -> Done:
        """Raises SpeechPruneError, the sample named."""
        try:
            return self._make(job)
        except SpeechPruneError as error:
            error.args = (f"{job.sample.brief.id}: {error}",)
            raise

    def _make(self, job: Job) -> Done:
        sample, files, sound = job.sample, dict[str, bytes](), job.sound
        if sound is None:
            sample, files = self._speak(sample)
            sound = files[self.layout.audio(sample, self.plan.format)]
        found = {name: self._measure(name, sample, sound) for name in job.checks}
        how = {name: CHECKS.make_of(name, self.plan.settings).describe() for name in job.checks}
        update = {"measures": sample.measures | found, "measured": sample.measured | how}
        return Done(sample.model_copy(update=update), files)

    def _speak(self, sample: Sample) -> tuple[Sample, dict[str, bytes]]:
        from speechprune_cli.builder.mixing import record

        voices = choose_voices(self.speaker, self.plan)
        number, script = sample.brief.number, sample.script
        samples, speech = record(script, number, self.plan, voices, self.synthesizer)
        name = self.layout.audio(sample, self.plan.format)
        with TemporaryDirectory() as folder:
            self.layout.save(Path(folder), name, samples, script, speech)
            written = [path for path in Path(folder).rglob("*") if path.is_file()]
            files = {str(path.relative_to(folder)): path.read_bytes() for path in written}
        return sample.model_copy(update={"speech": speech}), files

    def _measure(self, name: str, sample: Sample, sound: bytes) -> dict[str, float]:
        import soundfile

        if name not in self._measures:
            self._measures[name] = CHECKS.make_of(name, self.plan.settings).load()
        try:
            samples, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
        except soundfile.LibsndfileError as error:
            raise SpeechPruneError(f"the recording cannot be read: {error}") from error
        return self._measures[name](samples, rate, sample.script)


def choose_voices(speaker: Speaker, plan: Plan) -> list[Voice]:
    """The voices that the plan names, or all. Raises UsageError where they are too few."""
    known = {voice.name: voice for voice in speaker.voices()}
    if unknown := [name for name in plan.voices if name not in known]:
        listed = ", ".join(list(known)[:8])
        raise UsageError(f"--voice {unknown[0]}: {plan.speaker} has {listed}, ...")
    found = [known[name] for name in plan.voices or known]
    most = max(PEOPLE[scenario][-1] for scenario in plan.scenarios)
    if len(found) < most:
        raise UsageError(
            f"{len(found)} voices for up to {most} people in a recording: allow more with --voice "
            "or --voices, or ask for --scenario lecture alone"
        )
    return found


def sources(speaker: Speaker) -> dict[str, str]:
    """What the bytes depend on beside the plan."""
    found = speaker.sources()
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_scripts(build: BuildFolder, plan: Plan) -> Iterator[str]:
    """Write all dialogues that are not there yet, and tell the samples' names.

    Raises SpeechPruneError; what is written is kept.
    """
    writer = WRITERS.make_of(plan.writer, plan.settings)
    asked: set[str] = set()
    for brief in briefs(plan):
        sample = build.read(brief.number)
        if sample is None:
            rng = Random(f"{plan.seed}/script/{brief.number}")
            script = writer.write(brief, rng, asked, sum(plan.pause) / 2)
            sample = Sample(brief=brief, script=script)
            build.write(sample)
        asked.add(sample.script.question)
        yield brief.id


def unfinished(
    build: BuildFolder, plan: Plan, checks: Iterable[str]
) -> list[tuple[Sample, tuple[str, ...], Path | None]]:
    """Samples that lack something: what is to be measured, and the recording if there is one."""
    how = LAYOUTS.make(plan.layout, {})
    described = {name: CHECKS.make_of(name, plan.settings).describe() for name in checks}
    found = []
    for number in range(plan.samples):
        sample = build.read(number)
        if sample is None:
            raise SpeechPruneError(f"{build.path(number)} is gone: run the same command again")
        path = build.folder / how.audio(sample, plan.format)
        spoken = sample.speech is not None and path.exists()
        if not spoken:
            sample = Sample(brief=sample.brief, script=sample.script)
        missing = tuple(n for n, text in described.items() if _lacks(sample, n, text))
        if missing or not spoken:
            found.append((sample, missing, path if spoken else None))
    return found


def _lacks(sample: Sample, name: str, how: str) -> bool:
    """Whether a check was not made, not so, or not all that it found is there."""
    found = sample.measures.get(name, {})
    return sample.measured.get(name) != how or not CHECKS.part(name).finds <= found.keys()


def keep(build: BuildFolder, done: Iterable[Done]) -> Iterator[str]:
    """Write what workers make, and tell the samples' names.

    Sound comes first, so that a sample that says it is spoken is.
    """
    with closing(iter(done)) as finished:  # type: ignore[type-var]  # a generator has close()
        for each in finished:
            for name, content in each.files.items():
                target = build.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic(target) as path:
                    path.write_bytes(content)
            build.write(each.sample)
            yield each.sample.brief.id
