"""Models side by side, as their presets state them: the same recording, read whole and pruned."""

from __future__ import annotations

from dataclasses import dataclass

from speechprune_cli.backends import FAMILIES
from speechprune_cli.backends.shape import Shape
from speechprune_cli.config import Preset
from speechprune_cli.costs import GIGA
from speechprune_cli.errors import UsageError
from speechprune_cli.methods import FULL, MethodSpec
from speechprune_cli.profiler import counted
from speechprune_cli.profiler.architecture import stated_shape
from speechprune_cli.profiler.counted import beyond_context, peak_bytes
from speechprune_cli.profiler.setting import Setting

LIMITS = (24e9, 48e9, 80e9)  # bytes of memory that GPUs have


@dataclass(frozen=True)
class Fits:
    """The longest recording whose peak memory fits."""

    seconds: float | None  # up to ten hours; None: the weights alone do not fit
    beyond_context: bool  # whether its prompt is


@dataclass(frozen=True)
class Reading:
    """What it takes to read the recording in one way."""

    condition: str
    audio_tokens: int
    prompt_tokens: int
    beyond_context: bool
    encoder_tflops: float
    pruning_tflops: float | None  # None for a method that is not counted
    tflops: float  # all that is counted: encoder, pruning, prefill, decode
    kv_cache_gb: float  # in 16 bits, with the answer's tokens
    gb: float  # peak memory, weights included
    longest: dict[str, Fits]  # by the limit of memory, `24GB`


@dataclass(frozen=True)
class Figures:
    """What follows from a model's architecture."""

    tokens_per_second: float
    exact: bool  # False: how many tokens there are depends on what is said
    context: int  # positions
    context_seconds: float  # of the recording whose unpruned prompt fills it
    weights_gb: float
    whole: Reading
    pruned: Reading | None  # None: `refused` says why
    refused: str | None


@dataclass(frozen=True)
class Compared:
    """One model."""

    model: str
    parameters: int | None
    languages: tuple[str, ...]  # none: not stated
    licence: str
    figures: Figures | None  # None: the preset states no architecture


def compare(
    preset: Preset, setting: Setting, dtype: str, limits: tuple[float, ...] = LIMITS
) -> Compared:
    """One model, whole and by the setting's first way of pruning; limits in bytes.

    Raises UsageError for a recording too short for a single token, ModelError for a preset whose
    architecture is not its family's.
    """
    shape = stated_shape(preset)
    return Compared(
        model=preset.name,
        parameters=preset.parameters,
        languages=preset.known_languages,
        licence=preset.licence,
        figures=None if shape is None else figures(shape, setting, dtype, limits),
    )


def figures(shape: Shape, setting: Setting, dtype: str, limits: tuple[float, ...]) -> Figures:
    """Of one model, counted."""
    spec = setting.specs[0]
    refused = why_not(shape, spec)
    return Figures(
        tokens_per_second=shape.encoder.per_second,
        exact=shape.encoder.exact,
        context=shape.decoder.max_position_embeddings,
        context_seconds=counted.context_seconds(shape, setting),
        weights_gb=counted.weights_bytes(shape, dtype) / GIGA,
        whole=reading(shape, setting, FULL, dtype, limits),
        pruned=None if refused else reading(shape, setting, spec, dtype, limits),
        refused=refused,
    )


def why_not(shape: Shape, spec: MethodSpec) -> str | None:
    """What the method needs and the model does not give; None where it can be pruned so."""
    try:
        spec.check_family(FAMILIES.part(shape.family))
    except UsageError as error:
        return str(error)
    return None


def reading(
    shape: Shape, setting: Setting, spec: MethodSpec, dtype: str, limits: tuple[float, ...]
) -> Reading:
    """One model, read in one way."""
    load = setting.load(shape, spec)
    computed = counted.compute_of(shape, setting, load)
    return Reading(
        condition=load.name,
        audio_tokens=load.kept,
        prompt_tokens=load.length,
        beyond_context=computed.beyond_context,
        encoder_tflops=computed.encoder,
        pruning_tflops=computed.pruning,
        tflops=computed.total,
        kv_cache_gb=counted.memory_of(shape, setting, load).kv_cache,
        gb=peak_bytes(shape, setting, load, dtype) / GIGA,
        longest={called(limit): fits(shape, setting, spec, dtype, limit) for limit in limits},
    )


def called(limit: float) -> str:
    """Bytes as `24GB`."""
    return f"{limit / GIGA:g}GB"


def fits(shape: Shape, setting: Setting, spec: MethodSpec, dtype: str, limit: float) -> Fits:
    """The longest recording within `limit` bytes."""
    seconds = counted.longest_seconds(shape, setting, spec, dtype, limit)
    if seconds is None:
        return Fits(None, False)
    length = setting.load(shape, spec, seconds).length
    return Fits(seconds, beyond_context(shape, setting, length))
