"""Command lines that nobody would type: any options, with values that they may or may not take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer
from hypothesis import strategies as st

from speechprune_cli.main import app
from speechprune_cli.methods import PRUNERS

LEFT_OUT = ("--ray", "--workers", "--gpus", "--verbose", "--server")
"""What starts processes that outlive this one, or waits for another; notes, which are neither
warnings nor errors."""
LASTING = {"--max-new-tokens", "--samples", "--seconds", "--repeats", "--limit", "--batch-size"}
NUMBERS = "0 1 2 3 -1 0.5 1.5 20% 150 0.0001 -0 nan inf -inf 1e-400 007 ٣ ½ 0x10 1_0 1,5"
HUGE = "99999999999999999999 1e300 1e400 -99999999999999999999"
WORDS = "auto cpu cuda:7 mps float16 int8 question original repacked hub index none wer flac srt"
WORDS += " german xx likelihood letter generate cue:reach=0 reach=0.5 temperature=nan x=y = a=b=c"
PLACES = "a.wav a.srt d.jsonl r . missing /dev/null /proc/self/mem made.wav made.png made.json"
PLACES += " made.vtt made.safetensors made made/in.svg empty.wav d.jsonl/x ~ ~x /"
EVAL = "jsonl --data d.jsonl -o made --limit 1 -m"
BUILD = "made --samples 1 --seconds 10 --speaker espeak"
RIGHT = {
    "--keep": "20% 5 100% 0.1%",
    "--rate": "0 0.2 0.99",
    "--position": "repacked original",
    "--query": "question question+choices",
    "--set": "reach=0.5 temperature=0.5 seed=3",
    "--choice": "Friday never yes a",
    "--dtype": "float32 bfloat16 float16",
    "--device": "cpu auto",
    "--language": "en german",
    "--budget": "1 10 750",
    "--track": "1 2",
    "--transcript": "made.srt made.vtt made.json made.txt",
    "--from-transcript": "a.srt a.vtt a.json",
    "--output": "made.safetensors made-too",
    "--audio": "made.wav made.flac made.opus made.mp3",
    "--plot": "made.png made.svg made.pdf",
    "--tsne": "made.png",
    "--scoring": "likelihood letter generate open",
    "--seconds": "10 30 1e6",
    "--versus": "uniform full",
    "--layout": "jsonl spiral",
    "--format": "flac opus wav",
    "--speaker": "espeak",
    "--check": "none",
}
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=8)
ODD = ("", " ", "-", "--", "--json", "\ud800", "\x1b[2J", "[/b]", "%s", "x" * 3000)
ODD += ("£50", "🎉", "<|AUDIO|>", "<|im_end|>", "../" * 50)
QUESTIONS = ("When is the report due?", "Who?", *ODD)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All that there are, and what they are called."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    for name, each in (inner or {}).items():
        yield from commands(each, (*path, name))


COMMANDS = [each for each in commands(typer.main.get_command(app)) if each[0] != ("serve",)]
"""All but the one that does not end."""


@st.composite
def command_lines(draw: st.DrawFn, models: Sequence[str]) -> list[str]:
    """One of any command; mostly with the arguments that it needs."""
    path, command = draw(st.sampled_from(COMMANDS))
    options = [each for each in command.params if each.param_type_name == "option"]
    options = [each for each in options if each.opts[0] not in LEFT_OUT]
    chosen = draw(st.lists(st.sampled_from(options), max_size=4))
    line = [*path, *draw(_needed(path[-1], models))]
    for option in chosen:
        line.append(option.opts[0])
        if not option.is_flag:
            line += [draw(_value(option.opts[0], models)) for _ in range(option.nargs)]
    return line


def _value(option: str, models: Sequence[str]) -> st.SearchStrategy[str]:
    numbers = NUMBERS.split() + ([] if option in LASTING else HUGE.split())
    known = [*WORDS.split(), *PLACES.split(), *numbers, *ODD]
    if option in LASTING:
        known = numbers
    right = {"--model": models, "--method": PRUNERS.names}.get(option) or RIGHT.get(option, "3 0.5")
    likely = st.sampled_from(list(right.split() if isinstance(right, str) else right))
    if option == "--output":
        return likely  # a run's folder may have any name
    return st.one_of(likely, likely, st.sampled_from(known), TEXT)


def _needed(command: str, models: Sequence[str]) -> st.SearchStrategy[list[str]]:
    """What stands before the options."""
    place, question = st.sampled_from(PLACES.split()), st.sampled_from(QUESTIONS)
    model = st.sampled_from([*models, "no-such", *ODD])
    right: dict[str, tuple[st.SearchStrategy[str], ...]] = {
        "ask": (st.just("a.wav"), question, st.just("-m"), model),
        "prune": (st.just("a.wav"), question, st.just("-m"), model),
        "eval": (*map(st.just, EVAL.split()), model),
        "profile": (model, st.just("--seconds"), st.just("30")),
        "build": tuple(map(st.just, BUILD.split())),
        "report": (st.just("r"),),
        "get": (st.just("alone"),),
        "use": (model,),
        "remove": (model,),
    }
    typed = st.tuples(*right[command]).map(list)
    return st.one_of(typed, typed, typed, st.lists(st.one_of(place, question, TEXT), max_size=3))
