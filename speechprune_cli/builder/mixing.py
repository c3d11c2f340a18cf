"""From a script to a recording: voices, pauses, overlaps, room, noise, loudness."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

import numpy as np
import soxr

from speechprune_cli.builder.plan import LUFS, RATE, Plan
from speechprune_cli.builder.script import Script, Speech
from speechprune_cli.builder.speakers.base import Synthesizer, Voice
from speechprune_cli.errors import SpeechPruneError

GRID = RATE // 1000  # sentences begin and end on whole ms: times are exact at 16 kHz too
SPEED = (0.95, 1.1)
LONGEST_OVERLAP = 0.5  # seconds that the next speaker may talk into the end of a sentence


def cast(speakers: Sequence[str], voices: Sequence[Voice], number: int, rng: Random) -> list[Voice]:
    """A voice of its own for every speaker, women and men in turn, and turn about over samples."""
    left = rng.sample(list(voices), len(voices))
    chosen: list[Voice] = []
    for place in range(len(speakers)):
        wanted = "fm"[(place + number) % 2]
        fitting = [voice for voice in left if voice.gender in (wanted, "?")] or left
        chosen.append(fitting[0])
        left.remove(fitting[0])
    return chosen


def record(
    script: Script, number: int, plan: Plan, voices: Sequence[Voice], synthesizer: Synthesizer
) -> tuple[np.ndarray, Speech]:
    """Speak a script: float32 samples `[T]` at 24 kHz, and where every sentence is in them.

    A function of the plan's seed and the number alone. Raises SpeechPruneError.
    """
    begun = time.perf_counter()
    seed = f"{plan.seed}/speech/{number}"
    rng = Random(seed)
    synthesizer.reseed(rng.getrandbits(31))
    chosen = dict(zip(script.speakers, cast(script.speakers, voices, number, rng), strict=True))
    speeds = {speaker: round(rng.uniform(*SPEED), 2) for speaker in script.speakers}
    spoken = [
        _say(synthesizer, utterance.text, chosen[utterance.speaker].name, speeds[utterance.speaker])
        for utterance in script.utterances
    ]
    _level(spoken, [utterance.speaker for utterance in script.utterances])
    starts = _starts(script, [len(samples) for samples in spoken], plan, rng)
    spans = tuple((at, at + len(samples)) for at, samples in zip(starts, spoken, strict=True))
    samples = np.zeros(max(end for _, end in spans), np.float32)
    for (start, end), sound in zip(spans, spoken, strict=True):
        samples[start:end] += sound
    samples = _in_room(samples, plan, np.random.default_rng(rng.getrandbits(64)))
    samples = np.clip(samples * _gain(samples), -1, 1).astype(np.float32)
    speech = Speech(
        voices={speaker: voice.name for speaker, voice in chosen.items()},
        genders={speaker: voice.gender for speaker, voice in chosen.items()},
        rate=RATE,
        length=len(samples),
        spans=spans,
        took=round(time.perf_counter() - begun, 2),
    )
    return samples, speech


def _gain(samples: np.ndarray) -> float:
    return 10 ** ((LUFS - loudness(samples)) / 20)


def loudness(samples: np.ndarray, rate: int = RATE) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770); raises SpeechPruneError for silence."""
    from pyloudnorm import Meter

    blocks = max(0, round(0.4 * rate) + 1 - len(samples))
    found = float(Meter(rate).integrated_loudness(np.pad(samples, (0, blocks))))
    if not np.isfinite(found):
        raise SpeechPruneError("what was spoken is silence")
    return found


def _say(synthesizer: Synthesizer, text: str, voice: str, speed: float) -> np.ndarray:
    samples, rate = synthesizer.say(text, voice, speed)
    samples = soxr.resample(samples, rate, RATE)
    return np.pad(samples, (0, -len(samples) % GRID))


def _level(spoken: list[np.ndarray], speakers: Sequence[str]) -> None:
    """Every speaker as loud as the others, in place."""
    for speaker in set(speakers):
        mine = [number for number, name in enumerate(speakers) if name == speaker]
        gain = np.float32(_gain(np.concatenate([spoken[number] for number in mine])))
        for number in mine:
            spoken[number] = spoken[number] * gain


def _starts(script: Script, lengths: Sequence[int], plan: Plan, rng: Random) -> list[int]:
    """First samples of the sentences. Nobody talks into the telling one, nor it into another."""
    starts, position = [], 0
    for number, length in enumerate(lengths):
        starts.append(position)
        pause = rng.uniform(*plan.pause)
        overlaps = rng.random() < plan.overlap
        after = script.utterances[number : number + 2]
        changes = len({utterance.speaker for utterance in after}) > 1
        if overlaps and changes and script.key not in (number, number + 1):
            pause = -rng.uniform(0, min(LONGEST_OVERLAP, length / RATE / 2))
        position += length + round(pause * 1000) * GRID
    return starts


def _in_room(samples: np.ndarray, plan: Plan, draw: np.random.Generator) -> np.ndarray:
    """With echo and noise, where the plan wants them; as long as before."""
    from scipy.signal import fftconvolve

    if plan.reverb:
        seconds = np.arange(round(plan.reverb * RATE)) / RATE
        tail = draw.standard_normal(len(seconds)) * 10 ** (-3 * seconds / plan.reverb)
        tail[0] = 0
        room = tail * (0.5 / np.sqrt(np.sum(tail**2)))  # 6 dB below the direct sound
        room[0] = 1
        samples = fftconvolve(samples, room)[: len(samples)]
    if plan.snr is not None:
        noise = _pink(len(samples), draw)
        loud = np.mean(samples**2) / np.mean(noise**2) / 10 ** (plan.snr / 10)
        samples = samples + noise * np.sqrt(loud)
    return samples


def _pink(length: int, draw: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with the frequency, as that of most rooms and streets."""
    spectrum = np.fft.rfft(draw.standard_normal(length))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), length)
