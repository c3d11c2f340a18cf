"""Figures of speed and memory, by pytest-benchmark.

    pytest tests/benchmarks/bench_speed.py --benchmark-columns=median,iqr,rounds

Prints medians and ratios of one run on this machine; it passes no judgement and is no test, so
`pytest` alone leaves it out. `-k "not hour"` leaves out what takes minutes.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch

from speechprune_cli import Session, load, load_audio
from speechprune_cli.cache import TokenCache
from speechprune_cli.device import PeakMemory
from speechprune_cli.flow import Audio, AudioTokens, Selection

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "speechprune_cli" / "examples" / "meeting.ogg"
QUESTION = "Where did Daniel get a job?"
HOUR = 3600
Figures = dict[str, float]
RATIOS: dict[str, Callable[[Figures], str]] = {
    "pruning / the prefill it shortens": lambda f: f"{f['prune'] / f['prefill of all']:.1%}",
    "(prune + prefill of 150) / prefill of 150": lambda f: (
        f"{(f['prune'] + f['prefill of 150']) / f['prefill of 150']:.2f}, by cue "
        f"{(f['prune by cue'] + f['prefill of 150']) / f['prefill of 150']:.2f}"
    ),
    "prefill of all / (prune + prefill of 150)": lambda f: (
        f"{f['prefill of all'] / (f['prune'] + f['prefill of 150']):.1f} x faster"
    ),
    "literal reference / production scorer, N = 2,250": lambda f: (
        f"{f['literal'] / f['score 2250']:.0f} x"
    ),
    "memory that scoring N = 90,000 adds": lambda f: f"{f['score 90000 bytes'] / 2**20:.0f} MiB",
    "speechprune --help": lambda f: f"{1000 * f['help']:.0f} ms",
    "first / second ask, whole processes": lambda f: (
        f"{f['first process']:.2f} s / {f['second process']:.2f} s"
    ),
    "first / second ask in one session": lambda f: (
        f"{f['first ask']:.2f} s / {f['second ask']:.3f} s = "
        f"{f['first ask'] / f['second ask']:.1f} x"
    ),
    "one hour, encoded and answered": lambda f: (
        f"{f['hour']:.0f} s, peak {f['hour bytes'] / 2**30:.2f} GiB resident"
    ),
}
"""What is printed, of whatever was run."""


@pytest.fixture(scope="session", autouse=True)
def figures(request: pytest.FixtureRequest):
    """Seconds and bytes by name; their ratios are printed at the end."""
    found: Figures = {}
    yield found
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print(f"\n\n{'machine':<52}{machine}")
        for name, show in RATIOS.items():
            try:
                print(f"{name:<52}{show(found)}")
            except KeyError:
                print(f"{name:<52}not run")


@pytest.fixture
def timed(benchmark, figures: Figures):
    """Run something some times, after warm-ups, and keep its median under a name."""

    def run(name: str, target: Callable[..., Any], rounds: int = 9, warm_ups: int = 2, **more):
        result = benchmark.pedantic(target, rounds=rounds, warmup_rounds=warm_ups, **more)
        if benchmark.stats is not None:
            figures[name] = benchmark.stats.stats.median
        return result

    return run


@pytest.fixture(scope="session")
def session(tmp_path_factory) -> Session:
    session = load("nano")
    session.cache = TokenCache(tmp_path_factory.mktemp("cache"))
    return session


@pytest.fixture(scope="session")
def tokens(session: Session) -> AudioTokens:
    return session.encode(RECORDING)


@pytest.mark.parametrize("count", ["all", 150])
def test_prefill(timed, session, tokens, count):
    keep = len(tokens) if count == "all" else count
    selection = session.prune(tokens, QUESTION, method="uniform", keep=keep, budget="all")
    prompt = session.build_prompt(tokens, selection, QUESTION)
    timed(f"prefill of {count}", lambda: session.model.prefill(prompt))


@pytest.mark.parametrize(
    ("name", "method"),
    [("prune", "speechprune"), ("phase 1", "phase1"), ("prune by cue", "cue")],
)
def test_prune_to_150(timed, session, tokens, name, method):
    timed(name, lambda: session.prune(tokens, QUESTION, method=method, rate=0.8))


def random_tokens(tokens: AudioTokens, count: int) -> AudioTokens:
    """As many as wanted, alike in all but their embeddings."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.arange(count) % len(tokens)
    spread = {
        name: value[numbers]
        for name, value in vars(tokens).items()
        if isinstance(value, torch.Tensor)
    }
    embeds = torch.randn(count, tokens.embeds.shape[1], generator=generator)
    times = torch.arange(count)[:, None] / 25 + torch.tensor([0, 0.04])
    return replace(tokens, **(spread | {"embeds": embeds, "times": times}), seconds=count / 25)


@pytest.mark.parametrize("count", [2_250, 90_000])
def test_score(timed, figures, session, tokens, count):
    many = random_tokens(tokens, count)
    peak = PeakMemory(torch.device("cpu"))
    before = peak.bytes()
    timed(
        f"score {count}", lambda: session.prune(many, QUESTION, method="speechprune", rate=0.8), 5
    )
    figures[f"score {count} bytes"] = peak.bytes() - before


def test_literal_reference(timed, session, tokens):
    many = random_tokens(tokens, 2_250)
    text, layer = session.model.embed_text(QUESTION), session.model.first_layer()
    timed("literal", lambda: literal(many, text, layer), rounds=3, warm_ups=1)


def literal(tokens: AudioTokens, text: torch.Tensor, layer: Any) -> object:
    """Both phases in float64, as tests/reference.py computes them."""
    speech, question = tokens.embeds.double().numpy(), text.double().numpy()
    weights = [w.double().numpy() for w in (layer.q_weight, layer.k_weight)]
    survivors = reference.phase1(speech, question, 25, 750)
    attention = reference.attention(
        speech[survivors], *weights, layer.heads, layer.kv_heads, scale="paper"
    )
    similarity = reference.cosines(speech, question).mean(axis=1)[survivors]
    return survivors[reference.phase2(reference.received(attention), similarity, 150)]


def tool(cache: str, *arguments: str) -> str:
    """A whole process, as a shell sees it."""
    environment = {**os.environ, "SPEECHPRUNE_CACHE_DIR": cache}
    command = [sys.executable, "-m", "speechprune_cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_help(timed):
    timed("help", lambda: tool("", "--help"), rounds=5, warm_ups=1)


def test_first_process(timed):
    def fresh():
        return (tempfile.mkdtemp(), "ask", str(RECORDING), QUESTION), {}

    timed("first process", tool, rounds=3, warm_ups=0, setup=fresh)


def test_second_process(timed, tmp_path):
    first = tool(str(tmp_path), "ask", str(RECORDING), QUESTION)
    again = timed(
        "second process", lambda: tool(str(tmp_path), "ask", str(RECORDING), QUESTION), 3, 0
    )
    assert again == first


def test_first_ask(timed, session, tmp_path):
    audio = load_audio(RECORDING)

    def forget():
        session.cache = TokenCache(Path(tempfile.mkdtemp(dir=tmp_path)))

    timed("first ask", lambda: session.ask(audio, QUESTION), rounds=3, warm_ups=0, setup=forget)


def test_second_ask(timed, session):
    audio = load_audio(RECORDING)
    session.ask(audio, QUESTION)
    assert timed("second ask", lambda: session.ask(audio, QUESTION)).tokens.from_cache


def test_one_hour(timed, figures, session):
    samples = np.resize(load_audio(RECORDING).samples, HOUR * 16_000)
    hour = Audio(samples, "one hour", "0" * 64, 16_000, 1, float(HOUR))
    peak = PeakMemory(torch.device("cpu"))

    def ask() -> Selection:
        tokens = session.model.encode(hour)
        selection = session.prune(tokens, QUESTION)
        session.answer(tokens, selection, QUESTION)
        return selection

    assert len(timed("hour", ask, rounds=1, warm_ups=0).scores) == HOUR * 25
    figures["hour bytes"] = peak.bytes()
