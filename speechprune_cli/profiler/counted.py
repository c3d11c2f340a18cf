"""Figures of a setting in closed form: no weights, no device, any model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from speechprune_cli.bench.grid import Condition
from speechprune_cli.config import Architecture, Preset
from speechprune_cli.errors import ModelError
from speechprune_cli import costs
from speechprune_cli.costs import GIGA, TERA
from speechprune_cli.profiler.pruning import pruning_bytes, pruning_flops
from speechprune_cli.profiler.setting import LONGEST, Load, Setting, window_tokens

DTYPES = ("float32", "bfloat16", "int8", "nf4")
"""In which memory is counted; float16 takes what bfloat16 takes."""
LENGTHS = (30, 90, 300, 600, 1800, 3600, 7200, 18_000, 36_000)
"""Of recordings whose costs are compared, in seconds."""
WINDOWS_AT_ONCE = 4
"""That `SpeechLM.encode` reads side by side."""


@dataclass(frozen=True)
class PaperCount:
    """One row in the paper's convention (`costs.py`); a batch takes `batch_size` times as much."""

    rate: float
    audio_tokens: int
    length: int
    tflops: float
    memory_gb: float
    activations_gb: float
    paper: tuple[str, str, str] | None
    """The same three as table I prints them, where it has this row."""


TABLE_I = {
    (0.0, 857): ("12.2", "13.40", "0.19"),
    (0.2, 707): ("10.06", "13.32", "0.15"),
    (0.4, 557): ("7.93", "13.24", "0.11"),
    (0.6, 407): ("5.79", "13.17", "0.07"),
    (0.8, 257): ("3.66", "13.09", "0.04"),
}
"""TFLOPs, total memory and stored activations in GB, by pruning rate and prompt length: table I of
SpeechPrune (arXiv 2412.12009), on Qwen2-Audio with 750 audio tokens at rate 0 and 107 of text."""
TABLE_I_MODEL = "qwen2-audio"


@dataclass(frozen=True)
class Compute:
    """TFLOPs of one condition, everything that a run computes.

    A batch is of questions about one recording: that is encoded once, all else is done for each.
    """

    condition: str
    method: str
    rate: float | None
    audio_tokens: int
    length: int
    beyond_context: bool
    encoder: float | None
    """None where the encoder is of a kind that is not known."""
    pruning: float | None
    """None for a method that is not counted."""
    layers: float
    attention: float
    head: float
    decode: float

    @property
    def prefill(self) -> float:
        """All of reading the prompt."""
        return self.layers + self.attention + self.head

    @property
    def total(self) -> float:
        """All that is counted."""
        return (self.encoder or 0) + (self.pruning or 0) + self.prefill + self.decode


@dataclass(frozen=True)
class Memory:
    """GB of one condition at its peak, by dtype or quantisation; decimal."""

    condition: str
    length: int
    beyond_context: bool
    kv_cache: float
    """In 16 bits, with the answer's tokens."""
    working: float
    """In 16 bits: beside weights and KV cache, where most is held."""
    totals: dict[str, float]


@dataclass(frozen=True)
class Pruned:
    """What is left of the cost."""

    pruning_tflops: float | None
    """None for a method that is not counted."""
    prefill_tflops: float
    gb: float
    """Peak memory, weights included."""


@dataclass(frozen=True)
class Growth:
    """A recording of some length, not pruned and pruned to a fixed number of tokens."""

    seconds: float
    total: int
    beyond_context: bool
    """Whether the unpruned prompt is."""
    encoder: float | None
    """TFLOPs of the audio encoder, whatever is pruned."""
    full_tflops: float
    """Of the unpruned prefill."""
    full_gb: float
    """Peak memory, weights included."""
    pruned: dict[str, Pruned]
    """By condition."""


@dataclass(frozen=True)
class Longest:
    """The longest recording whose peak memory fits, in seconds; None: the weights alone do not."""

    dtype: str
    weights_gb: float
    seconds: dict[str, float | None]
    """By condition, up to ten hours."""


def architecture_of(preset: Preset) -> Architecture:
    """Raises ModelError for a preset that was not `described`."""
    if preset.architecture is None:
        raise ModelError(f"{preset.name}: its architecture is not known")
    return preset.architecture


def paper_counts(preset: Preset, setting: Setting) -> list[PaperCount]:
    """The rows of the paper's table I for this model, at the setting's rates."""
    decoder, counts = architecture_of(preset).decoder, []
    for rate in setting.rates:
        load = setting.load(preset, Condition("speechprune", rate))
        n, rows = load.length, setting.batch_size
        printed = TABLE_I.get((rate, n)) if preset.name == TABLE_I_MODEL and rows == 1 else None
        weights = costs.paper_memory_gb(decoder, 0)
        memory = weights + rows * (costs.paper_memory_gb(decoder, n) - weights)
        activations = rows * costs.paper_activations_gb(decoder, n)
        tflops = rows * costs.paper_tflops(decoder, n)
        counts.append(PaperCount(rate, load.kept, n, tflops, memory, activations, printed))
    return counts


def compute(preset: Preset, setting: Setting) -> list[Compute]:
    """TFLOPs of every condition."""
    return [_compute(preset, setting, load) for load in setting.loads(preset)]


def _compute(preset: Preset, setting: Setting, load: Load) -> Compute:
    shape, n, scale = architecture_of(preset), load.length, setting.batch_size / TERA
    decoder = shape.decoder
    pruning = pruning_flops(decoder, load.condition.method, load.pruned)
    return Compute(
        condition=load.name,
        method=load.condition.method,
        rate=load.condition.rate,
        audio_tokens=load.kept,
        length=n,
        beyond_context=beyond_context(preset, setting, n),
        encoder=_encoder_tflops(shape, load.windows),
        pruning=None if pruning is None else scale * pruning,
        layers=scale * costs.layers_flops(decoder, n),
        attention=scale * costs.attention_flops(decoder, n, n),
        head=scale * costs.head_flops(decoder),
        decode=scale * costs.decode_flops(decoder, n, setting.output_tokens),
    )


def memory(preset: Preset, setting: Setting) -> list[Memory]:
    """Peak memory of every condition."""
    decoder, found = architecture_of(preset).decoder, []
    for load in setting.loads(preset):
        held = load.length + setting.output_tokens - 1
        cache = setting.batch_size * costs.kv_cache_bytes(decoder, held, 2)
        peaks = {dtype: peak_bytes(preset, setting, load, dtype) for dtype in DTYPES}
        working = peaks["bfloat16"] - weights_bytes(preset, "bfloat16") - cache
        found.append(
            Memory(
                condition=load.name,
                length=load.length,
                beyond_context=beyond_context(preset, setting, load.length),
                kv_cache=cache / GIGA,
                working=max(working, 0) / GIGA,
                totals={dtype: peak / GIGA for dtype, peak in peaks.items()},
            )
        )
    return found


def peak_bytes(preset: Preset, setting: Setting, load: Load, dtype: str) -> float:
    """Weights, the audio tokens encoded, and the hungriest of encoding, pruning and reading.

    The encoder's share is 0 where its kind is not known.
    """
    shape, rows, size = architecture_of(preset), setting.batch_size, costs.BYTES[dtype]
    decoder, held = shape.decoder, load.length + setting.output_tokens - 1
    embedding = decoder.hidden_size * size
    windows = min(load.windows, WINDOWS_AT_ONCE)
    encoding = 0 if shape.encoder is None else costs.encoding_bytes(shape.encoder, windows, size)
    reading = (
        costs.kv_cache_bytes(decoder, held, size)
        + costs.activation_bytes(decoder, load.length, size)
        + load.length * embedding
    )
    pruning = pruning_bytes(decoder, load.condition.method, load.pruned)
    tokens = min(load.total, load.windows * window_tokens(preset)) * embedding
    return weights_bytes(preset, dtype) + tokens + max(encoding, pruning, rows * reading)


def weights_bytes(preset: Preset, dtype: str) -> float:
    """All weights of the model."""
    if preset.parameters is None:
        raise ModelError(f"{preset.name}: its number of parameters is not known")
    return costs.weights_bytes(architecture_of(preset).decoder, preset.parameters, dtype)


def growth(preset: Preset, setting: Setting, dtype: str, lengths: Iterable[float]) -> list[Growth]:
    """How costs grow with the recording's length."""
    return [_growth(preset, setting, dtype, seconds) for seconds in sorted(set(lengths))]


def _growth(preset: Preset, setting: Setting, dtype: str, seconds: float) -> Growth:
    shape = architecture_of(preset)

    def gigabytes(load: Load) -> float:
        return peak_bytes(preset, setting, load, dtype) / GIGA

    full, *others = setting.loads(preset, seconds)
    counts = {load.name: _compute(preset, setting, load) for load in (full, *others)}
    return Growth(
        seconds=seconds,
        total=full.total,
        beyond_context=counts[full.name].beyond_context,
        encoder=_encoder_tflops(shape, full.windows),
        full_tflops=counts[full.name].prefill,
        full_gb=gigabytes(full),
        pruned={
            load.name: Pruned(counts[load.name].pruning, counts[load.name].prefill, gigabytes(load))
            for load in others
            if load.condition.rate is not None
        },
    )


def longest(preset: Preset, setting: Setting, limit: float) -> list[Longest]:
    """The longest recording whose peak memory stays within `limit` bytes, by dtype."""
    found = []
    for dtype in DTYPES:
        seconds = {
            load.name: _longest(preset, setting, load.condition, dtype, limit)
            for load in setting.loads(preset)
            if load.condition.method != "original"
        }
        found.append(Longest(dtype, weights_bytes(preset, dtype) / GIGA, seconds))
    return found


def _longest(
    preset: Preset, setting: Setting, condition: Condition, dtype: str, limit: float
) -> float | None:
    """Whole seconds, by halving: memory never shrinks with the length."""

    def fits(seconds: float) -> bool:
        load = setting.load(preset, condition, seconds)
        return peak_bytes(preset, setting, load, dtype) <= limit

    if not fits(1):
        return None
    low, high = 1, int(LONGEST) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return float(low)


def beyond_context(preset: Preset, setting: Setting, length: int) -> bool:
    """Whether prompt and answer need more positions than the model was made for."""
    limit = architecture_of(preset).decoder.max_position_embeddings
    return length + setting.output_tokens - 1 > limit


def context_seconds(preset: Preset, setting: Setting) -> float:
    """Length of the recording whose unpruned prompt just fills the context."""
    limit = architecture_of(preset).decoder.max_position_embeddings
    room = limit - setting.text_tokens - setting.output_tokens + 1
    return max(room, 0) / preset.tokens_per_second


def _encoder_tflops(shape: Architecture, windows: int) -> float | None:
    if shape.encoder is None:
        return None
    return costs.encoder_flops(shape.encoder, shape.decoder, windows) / TERA
