"""What the campaign attacks: recordings, and every kind of file that a command reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from robustness.cases import Files, Target
from robustness.mutator import mutated

QUESTION = "When is the report due?"
SHORT = ("--max-new-tokens", "2")
SUBTITLES = {
    "a.srt": "1\n00:00:00,000 --> 00:00:00,700\nThe report is due\n\n"
    "2\n00:00:00,700 --> 00:00:01,400\n<i>on Friday.</i>\n\n",
    "a.vtt": "WEBVTT - told\nKind: captions\n\nNOTE nothing\n\n00:00.000 --> 00:00.700 line:0\n"
    "<v Ann>The report is due\n\n00:00.700 --> 00:01.400\n<c>on</c><00:01.000> Friday.\n",
    "a.json": json.dumps(
        {
            "language": "en",
            "segments": [
                {
                    "start": 0.0,
                    "end": 1.4,
                    "text": " The report is due.",
                    "words": [
                        {"word": " The", "start": 0.0, "end": 0.3, "probability": 0.9},
                        {"word": " report", "start": 0.3, "end": 0.9},
                        {"word": " is due.", "start": 0.9, "end": 1.4},
                    ],
                }
            ],
        }
    ),
}
"""As `--from-transcript` takes them."""
LINE = {"question": QUESTION, "options": ["on Friday", "never"], "answer": "never"}
SPEAKER = "tmp/"  # a copy of espeak, which goes when an interpreter ends
SETTINGS = ("*.json", "*.jinja", "*.model", "*.txt")


def audio(recordings: Mapping[str, bytes], model: Path, number: int, random: Random) -> Target:
    """The containers in turn, through any command that reads sound."""
    name = list(recordings)[number % len(recordings)]
    file, options = f"work/{name}", ("-m", str(model))
    lines = [{"audio": name, **LINE, "key": [0.1, 1.0]}, {"audio": name, **LINE}]
    index = "\n".join(map(json.dumps, lines)).encode()
    made = ("-o", "made.safetensors", "--audio", "made.wav", "--json")
    prune = Target("prune", ("prune", name, QUESTION, *options, *made), {}, file, {0, 3})
    stdin = Target("ask -", ("ask", "-", QUESTION, *options, *SHORT), {}, file, {0, 3}, stdin=file)
    measure = ("eval", "jsonl", "--data", "d.jsonl", *options, "-o", "made", "--keep", "50%")
    target = random.choice(
        (
            Target("ask", ("ask", name, QUESTION, *options, *SHORT), {}, file, {0, 3}),
            prune,
            stdin,
            Target("eval", measure, {"work/d.jsonl": index}, file, {0, 1, 2, 3}),
        )
    )
    files = {file: recordings[name], **target.files}
    return replace(target, name=f"{target.name} {name}", files=files, change=mutated)


def transcripts(preset: Path, recording: bytes) -> list[Target]:
    """Subtitles and transcripts that are given instead of recognising."""
    found = []
    for name, text in SUBTITLES.items():
        files = {f"work/{name}": text.encode(), "work/a.wav": recording}
        options = ("-m", str(preset), "--from-transcript", name)
        for command in (
            ("ask", "a.wav", QUESTION, *options, *SHORT, "--show"),
            ("prune", "a.wav", QUESTION, *options, "--json", "--plot", "made.svg"),
            ("ask", "a.wav", QUESTION, *options, *SHORT, "--transcript", "made.vtt", "--json"),
        ):
            found.append(Target(f"{command[0]} {name}", command, files, f"work/{name}", {0, 2, 3}))
    return found


def models(folder: Path, recording: bytes, code: int = 4) -> list[Target]:
    """Every file of a model folder, read by `ask`, and what `profile` reads."""
    found = []
    ask = ("ask", "a.wav", QUESTION, "-m", "model", *SHORT)
    files: Files = {"work/model": folder, "work/a.wav": recording}
    paths = [path for pattern in SETTINGS for path in sorted(folder.glob(pattern))]
    for path in [*paths, *sorted(folder.glob("*.safetensors"))]:
        victim = f"work/model/{path.name}"
        target = Target(f"ask {folder.name}/{path.name}", ask, files, victim, {0, code})
        found.append(replace(target, change=mutated) if path.suffix == ".safetensors" else target)
    profile = Target("", ("profile", "model", "--seconds", "60"), files, "", {0, 4})
    for name in ("config.json", "preprocessor_config.json"):
        if (folder / name).exists():
            victim = f"work/model/{name}"
            found.append(replace(profile, name=f"profile {folder.name}/{name}", victim=victim))
    return found


def presets(texts: Mapping[str, str], recording: bytes) -> list[Target]:
    """Presets of the user's own, by name of the file."""
    found = []
    for name, text in texts.items():
        files = {f"work/{name}": text.encode(), "work/a.wav": recording}
        for command in (
            ("ask", "a.wav", QUESTION, "-m", name, *SHORT),
            ("profile", name, "--seconds", "60"),
        ):
            told = f"{command[0]} {name}"
            found.append(Target(told, command, files, f"work/{name}", {0, 2, 4}))
    return found


def benchmarks(folders: Mapping[str, tuple[Path, str]], model: Path) -> list[Target]:
    """Indexes of benchmarks: for each benchmark its folder and the file in it."""
    found = []
    for name, (folder, index) in folders.items():
        data = "d/own.jsonl" if name == "jsonl" else "d"
        command = ("eval", name, "--data", data, "-m", str(model), "-o", "made", "--limit", "2")
        files: Files = {"work/d": folder}
        found.append(Target(f"eval {name}", command, files, f"work/d/{index}", {0, 1, 2, 3}))
    return found


def runs(folder: Path, others: Sequence[Path] = ()) -> list[Target]:
    """Every file of a finished run, shown, compared, drawn and gone on with."""
    found = []
    for run in (folder, *others):
        files: Files = {"work/r": run, "work/s": folder}
        commands = [
            ("report", "r"),
            ("report", "r", "s", "--markdown"),
            ("report", "s", "r", "--json"),
            ("report", "r", "--versus", "uniform", "--plot", "made.svg"),
        ]
        if run == folder:
            commands.append(("eval", "--resume", "r"))
        for path in sorted(run.iterdir()):
            if path.name.startswith("."):
                continue
            for command in commands:
                made = ("work/made", "work/r/") if command[0] == "eval" else ("work/made",)
                name = f"{' '.join(command)}: {run.name}/{path.name}"
                found.append(
                    Target(name, command, files, f"work/r/{path.name}", {0, 1, 2}, made=made)
                )
    return found


def builds(folder: Path, options: Sequence[str]) -> list[Target]:
    """Every text file of a set that is made, gone on with."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*.json*"))]
    sounds = [path.relative_to(folder) for path in sorted(folder.glob("audio/*"))[:1]]
    return [
        Target(
            f"build {name}",
            ("build", "b", *options),
            {"work/b": folder},
            f"work/b/{name}",
            {0, 1, 2, 3},
            made=("work/b", SPEAKER),
        )
        for name in (*names, *sounds)
    ]


def kept(cache: Path, commands: Mapping[str, Sequence[str]], recording: bytes) -> list[Target]:
    """Entries of a cache, for each pattern of their names the command that reads them."""
    found = []
    for pattern, command in commands.items():
        for path in sorted(cache.glob(pattern)):
            files: Files = {"cache": cache, "work/a.wav": recording}
            victim = f"cache/{path.relative_to(cache)}"
            found.append(Target(f"{command[0]} {pattern}", command, files, victim, {0}))
    return found
