"""Times and memory of the real thing on this machine.

Every round runs all conditions one after the other, so that whatever slows the machine down for a
while slows them all; the first round warms up and finds the peaks of memory. Clocks are read when
the device has finished what was queued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median, quantiles

import numpy as np
import torch
from torch import Tensor

from speechprune_cli import costs
from speechprune_cli.backends import FAMILIES, load_backend, placed
from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.backends.decoding import DecoderState, read_prompts
from speechprune_cli.backends.shape import Shape
from speechprune_cli.config import Preset
from speechprune_cli.device import PeakMemory, Stopwatch, memory_guard
from speechprune_cli.errors import OutOfMemoryError
from speechprune_cli.flow import SAMPLE_RATE, Audio, AudioTokens, Prompt
from speechprune_cli.methods import Amount
from speechprune_cli.pipeline import Session
from speechprune_cli.profiler.setting import Load, Setting

SEED = 0
QUESTION = "When is the report due?"
MATRIX = {"cuda": 8192, "mps": 4096, "cpu": 2048}  # side of the square matrices
PRODUCTS = 8  # of which the fastest counts


@dataclass(frozen=True)
class Timing:
    """Seconds: the median of the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """One round alone is its own quartiles."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0])
        low, _, high = quantiles(seconds, n=4, method="inclusive")
        return cls(median(seconds), low, high)


@dataclass(frozen=True)
class Round:
    """Seconds of one run of one condition."""

    encode: float  # what of the recording it needs
    prune: float  # choosing the tokens and putting the prompt together
    prefill: float  # reading the prompt, up to the logits of the first token
    decode: float | None  # per further token; None where only one is asked for


@dataclass(frozen=True)
class Measured:
    """One condition. Without timings where it did not fit into memory."""

    condition: str
    method: str
    rate: float | None
    audio_tokens: int
    length: int
    encode: Timing | None = None
    prune: Timing | None = None
    prefill: Timing | None = None
    pruned_prefill: Timing | None = None  # prune and prefill
    first_token: Timing | None = None  # encode, prune and prefill
    decode: Timing | None = None  # per token
    ideal: Timing | None = None  # prefill of as many audio tokens with no pruning, timed on its own
    over_ideal: float | None = None
    """Prune and prefill over the ideal of the same round, median; None where nothing is pruned."""
    peak_bytes: int | None = None  # allocated, on a CPU resident in the process; from pruning on
    reserved_bytes: int | None = None  # CUDA: what torch's allocator took from the device
    prefill_flops: int = 0  # linear layers, causal attention and the head at the last position
    error: str | None = None


@dataclass(frozen=True)
class Profile:
    """All that was measured in one run."""

    rows: tuple[Measured, ...]
    peak_flops: float  # operations a second of the fastest matrix product, in the model's dtype
    encode_peak_bytes: int  # as `Measured.peak_bytes`, while encoding


@dataclass
class Trial:
    """A condition and what came of it so far."""

    load: Load
    rounds: list[Round] = field(default_factory=list)
    ideals: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    reserved_bytes: int | None = None
    error: str | None = None


class Bench:
    """A loaded model and a recording of the setting's length."""

    def __init__(self, lm: SpeechLM, setting: Setting) -> None:
        self.lm, self.setting = lm, setting
        self.audio = noise(setting.seconds)
        generator = torch.Generator().manual_seed(SEED)
        vocabulary = lm.shape.decoder.vocab_size
        ids = torch.randint(vocabulary, (setting.text_tokens,), generator=generator)
        self.text: Tensor = lm.embed(ids.tolist())
        self.session = Session(lm)

    def encode(self, lengths: Iterable[float]) -> dict[float, AudioTokens]:
        """Tokens of the recording's first so many seconds, for each of these numbers."""
        parts = {
            seconds: replace(self.audio, samples=self.audio.samples[: round(seconds * SAMPLE_RATE)])
            for seconds in lengths
        }
        return {seconds: self.lm.rehearse(part) for seconds, part in parts.items()}

    def prompts(self, load: Load, tokens: AudioTokens) -> list[Prompt]:
        """One for each question of the batch, each pruned by itself."""
        spec = load.spec
        if spec.amount is not None:
            spec = replace(spec, amount=Amount(tokens=load.kept))
        prompts = []
        for _ in range(self.setting.batch_size):
            selection = self.session.select(tokens, QUESTION, spec, budget=load.size.budget)
            prompts.append(self.prompt(selection.apply(tokens)))
        return prompts

    def prompt(self, audio: Tensor) -> Prompt:
        """The audio tokens, then the text."""
        embeds = torch.cat([audio.to(self.text), self.text]).unsqueeze(0)
        positions = self.lm.position_ids(torch.arange(embeds.shape[1]))
        return Prompt(embeds, positions, "", len(audio), len(self.text))

    def read(self, prompts: Sequence[Prompt]) -> tuple[DecoderState, Tensor]:
        """The prompts, up to the logits of the first token."""
        decoder, size = self.lm.shape.decoder, self.lm.dtype.itemsize
        n = prompts[0].inputs_embeds.shape[1]
        needed = len(prompts) * costs.prefill_bytes(decoder, n, size)
        hint = "a lower --batch-size, shorter --seconds or a higher --rate"
        with memory_guard(f"reading {n:,} tokens", needed, self.lm.device, hint):
            return read_prompts(self.lm, prompts)

    def decode(self, state: DecoderState, logits: Tensor) -> None:
        """The tokens after the first, whatever they are."""
        for _ in range(self.setting.output_tokens - 1):
            logits = self.lm.head(state.read_on(logits.argmax(-1)[:, None])[:, -1])

    @torch.no_grad()
    def run(self, load: Load, tokens: AudioTokens) -> Round:
        """One condition, from the encoded recording to the last token."""
        clock = Stopwatch(self.lm.device)
        prompts = self.prompts(load, tokens)
        prune = clock.lap()
        state, logits = self.read(prompts)
        prefill = clock.lap()
        self.decode(state, logits)
        steps = self.setting.output_tokens - 1
        decode = clock.lap() / steps if steps else None
        return Round(tokens.encode_seconds, prune, prefill, decode)

    @torch.no_grad()
    def ideal(self, load: Load, tokens: AudioTokens) -> float:
        """Seconds to read as many tokens, the first ones, from prompts that are there already."""
        prompts = [self.prompt(tokens.embeds[: load.kept])] * self.setting.batch_size
        clock = Stopwatch(self.lm.device)
        self.read(prompts)
        return clock.lap()

    def warm_up(self, trial: Trial, tokens: AudioTokens) -> None:
        """Run it once to learn its peak of memory, or that there is no room for it."""
        if self.lm.device.type == "cuda":
            torch.cuda.empty_cache()
        peak = PeakMemory(self.lm.device)
        try:
            self.run(trial.load, tokens)
        except OutOfMemoryError as error:
            trial.error = str(error)
        trial.peak_bytes = peak.bytes()
        if self.lm.device.type == "cuda":
            trial.reserved_bytes = torch.cuda.max_memory_reserved(self.lm.device)

    def repeat(self, trial: Trial, tokens: AudioTokens) -> None:
        """Run it once more, and its ideal beside it."""
        trial.rounds.append(self.run(trial.load, tokens))
        trial.ideals.append(self.ideal(trial.load, tokens))

    def row(self, trial: Trial) -> Measured:
        """What the rounds of a condition come to."""
        load, rounds = trial.load, trial.rounds
        flops = costs.causal_prefill_flops(self.lm.shape.decoder, load.length)
        what = Measured(
            condition=load.name,
            method=load.spec.method,
            rate=load.spec.amount.rate if load.spec.amount else None,
            audio_tokens=load.kept,
            length=load.length,
            prefill_flops=self.setting.batch_size * flops,
            error=trial.error,
        )
        if trial.error is not None:
            return what
        decodes = [one.decode for one in rounds if one.decode is not None]
        pairs = zip(rounds, trial.ideals, strict=True)
        over_ideal = median((one.prune + one.prefill) / ideal for one, ideal in pairs)
        return replace(
            what,
            encode=Timing.of([one.encode for one in rounds]),
            prune=Timing.of([one.prune for one in rounds]),
            prefill=Timing.of([one.prefill for one in rounds]),
            pruned_prefill=Timing.of([one.prune + one.prefill for one in rounds]),
            first_token=Timing.of([one.encode + one.prune + one.prefill for one in rounds]),
            decode=Timing.of(decodes) if decodes else None,
            ideal=Timing.of(trial.ideals),
            over_ideal=None if load.kept == load.size.total else over_ideal,
            peak_bytes=trial.peak_bytes,
            reserved_bytes=trial.reserved_bytes,
        )


def load(
    preset: Preset,
    shape: Shape,
    *,
    made_up: bool,
    device: str,
    dtype: str,
    quantize: str,
    revision: str | None,
    offline: bool,
) -> SpeechLM:
    """The model, with its own weights or with made-up ones of the same shape."""
    if made_up:
        return FAMILIES.part(shape.family).random(
            preset, shape, placed(preset, device, dtype, quantize)
        )
    return load_backend(
        preset, revision=revision, device=device, dtype=dtype, quantize=quantize, offline=offline
    )


def measure(
    lm: SpeechLM, setting: Setting, repeats: int, on_progress: Callable[[int, int], None]
) -> Profile:
    """Time every condition in `repeats` rounds after one that warms up.

    A condition that does not fit into memory is a row with an `error`. Raises `OutOfMemoryError`
    where encoding does not fit.
    """
    bench = Bench(lm, setting)
    trials = [Trial(load) for load in setting.loads(lm.shape)]
    peak_flops = matmul_rate(lm.device, lm.dtype)
    steps = (repeats + 1) * len(trials)
    peak, encode_peak_bytes = PeakMemory(lm.device), 0
    for number in range(repeats + 1):
        encoded = bench.encode({trial.load.heard_seconds for trial in trials})
        encode_peak_bytes = encode_peak_bytes or peak.bytes()
        for count, trial in enumerate(trials, start=1):
            if number == 0:
                bench.warm_up(trial, encoded[trial.load.heard_seconds])
            elif trial.error is None:
                bench.repeat(trial, encoded[trial.load.heard_seconds])
            on_progress(number * len(trials) + count, steps)
    return Profile(tuple(map(bench.row, trials)), peak_flops, encode_peak_bytes)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of some products of two large square matrices."""
    side = MATRIX[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(PRODUCTS):
        clock = Stopwatch(device)
        left @ right
        seconds.append(clock.lap())
    return 2 * side**3 / min(seconds)


def noise(seconds: float) -> Audio:
    """White noise of that length."""
    count = round(seconds * SAMPLE_RATE)
    samples = np.random.default_rng(SEED).normal(0, 0.1, count).astype(np.float32)
    return Audio(samples, "noise", "", SAMPLE_RATE, 1, seconds)
