"""Figures of speed and memory: `python tests/benchmarks/speed.py [RECORDING]`.

Prints medians and ratios of one run on this machine; it passes no judgement and is no test.
The default recording is the shipped example.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import reference  # noqa: E402

from speechprune_cli import Session, load, load_audio  # noqa: E402
from speechprune_cli.device import PeakMemory  # noqa: E402
from speechprune_cli.flow import Audio, AudioTokens, PruningTask  # noqa: E402
from speechprune_cli.pruners import get_pruner  # noqa: E402

QUESTION = "Where did Daniel get a job?"
EXAMPLE = ROOT / "speechprune_cli" / "examples" / "meeting.ogg"


def median(run: Callable[[], object], times: int = 9) -> float:
    """Median seconds of `run`, after two warm-ups."""
    seconds = []
    for number in range(times + 2):
        start = time.perf_counter()
        run()
        if number >= 2:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def show(what: str, value: str) -> None:
    """One line of the report."""
    print(f"{what:<66} {value}", flush=True)


def prefill(session: Session, tokens: AudioTokens, keep: int) -> float:
    """Median seconds to read `keep` evenly spaced tokens and the question."""
    selection = session.prune(tokens, QUESTION, method="uniform", keep=keep, budget="all")
    prompt = session.build_prompt(tokens, selection, QUESTION)
    return median(lambda: session.model.prefill(prompt))


def pruning(session: Session, tokens: AudioTokens) -> None:
    """What pruning costs beside what it saves."""
    full, short = prefill(session, tokens, len(tokens)), prefill(session, tokens, 150)
    prune = median(lambda: session.prune(tokens, QUESTION, method="speechprune", rate=0.8))
    phase1 = median(lambda: session.prune(tokens, QUESTION, method="phase1", rate=0.8))
    show(f"prefill of all {len(tokens)} audio tokens", f"{1000 * full:.1f} ms")
    show("prefill of 150 audio tokens", f"{1000 * short:.1f} ms")
    show("pruning to 150, both phases", f"{1000 * prune:.1f} ms")
    show("pruning to 150, phase 1 alone", f"{1000 * phase1:.1f} ms")
    show("pruning / the prefill it shortens", f"{100 * prune / full:.1f} %")
    show("(prune + prefill of 150) / prefill of 150", f"{(prune + short) / short:.2f}")
    show("prefill of all / (prune + prefill of 150)", f"{full / (prune + short):.1f} x faster")


def scorer(session: Session) -> None:
    """The production scorer against the literal float64 reference, and on an hour of tokens."""
    layer = session.model.first_layer()
    text = torch.randn(12, session.model.hidden_size)
    for n in (2_250, 90_000):
        embeds = torch.randn(n, session.model.hidden_size)
        times = torch.arange(n)[:, None] / 25 + torch.tensor([0, 0.04])
        tokens = AudioTokens(embeds, times, 25, n / 25, 0)
        task = PruningTask(tokens, text, layer, 750, 150)
        pruner, peak = get_pruner("speechprune"), PeakMemory(torch.device("cpu"))
        before = peak.bytes()
        seconds = median(lambda pruner=pruner, task=task: pruner.select(task), 5)
        grown = (peak.bytes() - before) / 2**20
        show(f"speechprune, N = {n:,}", f"{1000 * seconds:.1f} ms, {grown:.0f} MiB more memory")
        if n == 2_250:
            literal = median(lambda task=task: literal_scores(task), 1)
            show("literal float64 reference, same N", f"{1000 * literal:.0f} ms")
            show("literal / production", f"{literal / seconds:.0f} x")


def literal_scores(task: PruningTask) -> object:
    """Both phases as tests/reference.py computes them."""
    speech, text = (t.double().numpy() for t in (task.tokens.embeds, task.text))
    layer = task.first_layer
    weights = [w.double().numpy() for w in (layer.q_weight, layer.k_weight)]
    survivors = reference.phase1(speech, text, 25, task.phase1_budget)
    attention = reference.attention(
        speech[survivors], *weights, layer.heads, layer.kv_heads, scale="paper"
    )
    similarity = reference.cosines(speech, text).mean(axis=1)[survivors]
    return survivors[reference.phase2(reference.received(attention), similarity, task.keep)]


def command_line(recording: Path) -> None:
    """Whole processes, as a shell sees them."""
    environment = {**os.environ, "SPEECHPRUNE_CACHE_DIR": tempfile.mkdtemp()}
    tool = [sys.executable, "-m", "speechprune_cli"]

    def run(*arguments: str) -> tuple[float, str]:
        start = time.perf_counter()
        done = subprocess.run(
            [*tool, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        return time.perf_counter() - start, done.stdout

    show("speechprune --help", f"{1000 * min(run('--help')[0] for _ in range(3)):.0f} ms")
    first, answer = run("ask", str(recording), QUESTION)
    second, again = run("ask", str(recording), QUESTION)
    show("first `ask`, whole process", f"{first:.2f} s")
    show("second `ask` on the same file, same answer", f"{second:.2f} s, {answer == again}")


def asking_again(session: Session, recording: Path) -> None:
    """The same two questions within a loaded model."""
    audio = load_audio(recording)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        result = session.ask(audio, QUESTION)
        seconds.append(time.perf_counter() - start)
    show(
        "first / second `ask` in one session",
        f"{seconds[0]:.2f} s / {seconds[1]:.2f} s = {seconds[0] / seconds[1]:.1f} x; "
        f"encoded again: {not result.tokens.from_cache}",
    )


def one_hour(session: Session, recording: Path) -> None:
    """The recording repeated to an hour, encoded and answered."""
    audio = load_audio(recording)
    samples = np.resize(audio.samples, 3600 * 16_000)
    hour = Audio(samples, "one hour", "0" * 64, 16_000, 1, 3600.0)
    peak = PeakMemory(torch.device("cpu"))
    start = time.perf_counter()
    tokens = session.model.encode(hour)
    encoded = time.perf_counter() - start
    selection = session.prune(tokens, QUESTION)
    answer = session.answer(tokens, selection, QUESTION)
    show("one hour: encode", f"{encoded:.0f} s for {len(tokens):,} tokens")
    show("one hour: prune", f"{1000 * selection.seconds:.0f} ms")
    show("one hour: prefill and decode", f"{answer.prefill_seconds + answer.decode_seconds:.2f} s")
    show("one hour: peak resident memory", f"{peak.bytes() / 2**30:.2f} GiB")


def main() -> None:
    """All figures, in order of what they cost."""
    recording = Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE
    os.environ["SPEECHPRUNE_CACHE_DIR"] = tempfile.mkdtemp()
    session = load("nano")
    tokens = session.encode(recording)
    show("machine", f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    show("recording", f"{tokens.seconds:.1f} s, {len(tokens)} tokens")
    pruning(session, tokens)
    scorer(session)
    command_line(recording)
    session.cache = type(session.cache)(Path(tempfile.mkdtemp()))
    asking_again(session, recording)
    one_hour(session, recording)


if __name__ == "__main__":
    main()
