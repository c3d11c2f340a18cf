"""Sound files as benchmarks have them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechprune_cli.atomic import atomic
from speechprune_cli.audio import write_audio
from speechprune_cli.errors import SpeechPruneError

if TYPE_CHECKING:
    import numpy as np

OPUS_BITS = 16_000  # per second: speech stays clear, 90 s take 180 kB


def save_sound(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write float32 samples `[T]` as the extension says; the folder is made where it is missing.

    Ogg Opus comes at `OPUS_BITS`: libsndfile writes Opus too, but at no chosen rate. Raises
    SpeechPruneError where the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechPruneError(f"cannot write {path.parent}: {error.strerror}") from error
    if path.suffix == ".opus":
        _save_opus(path, samples, rate)
    else:
        write_audio(path, samples, rate)


def _save_opus(path: Path, samples: np.ndarray, rate: int) -> None:
    import av
    import numpy as np

    with atomic(path) as target, av.open(target, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=rate, layout="mono")
        stream.bit_rate = OPUS_BITS
        stream.options = {"application": "voip"}
        pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
