"""Music Flamingo and Audio Flamingo Next: Audio Flamingo 3 whose tokens know their time.

What the encoder gives is turned by the window's number and by the seconds since the recording's
begin. The stock processor cuts at 20 minutes, that of Audio Flamingo Next at 30; here the windows
go on, with times that the model was not trained on, and that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speechprune_cli.backends.audio_flamingo3 import AudioFlamingo3
from speechprune_cli.backends.base import PROMPT_EMBEDS
from speechprune_cli.backends.windowed import EncodedWindows
from speechprune_cli.flow import PromptIds

if TYPE_CHECKING:
    import numpy as np

    from speechprune_cli.backends.shape import Shape
    from speechprune_cli.flow import Audio


class MusicFlamingo(AudioFlamingo3):
    """A `MusicFlamingoForConditionalGeneration`, stock."""

    family = "music_flamingo"
    model_types = ("musicflamingo",)
    code_version = "music_flamingo/1"
    served = PROMPT_EMBEDS
    model_class = "MusicFlamingoForConditionalGeneration"
    processor_class = "MusicFlamingoProcessor"

    @classmethod
    def config_of(cls, shape: Shape) -> Any:
        """Its configuration wants the encoder's type said."""
        from transformers import AudioFlamingo3EncoderConfig, MusicFlamingoConfig

        told = cls.configs(shape)
        encoder = AudioFlamingo3EncoderConfig(**told.pop("audio_config"))
        return MusicFlamingoConfig(**told, audio_config=encoder)

    def windows(self, audio: Audio) -> list[tuple[int, np.ndarray]]:
        """Samples of 30 s each, and the number of the window that they are."""
        return list(enumerate(super().windows(audio)))

    def encode_windows(self, windows: Sequence[tuple[int, np.ndarray]]) -> EncodedWindows:
        """Valid tokens of a batch of windows, and the attention they receive in the last layer."""
        import torch
        from transformers.models.musicflamingo.modeling_musicflamingo import apply_rotary_time_emb

        numbers, samples = zip(*windows, strict=True)
        hidden, valid, attention = self.listen(samples)
        steps, step = hidden.shape[1], self.model.config.audio_frame_step * 4
        offsets = torch.arange(steps, dtype=torch.float32, device=self.device) * step
        starts = torch.tensor(numbers, device=self.device)[:, None] * steps * step
        cosine, sine = self.model.model.pos_emb(starts + offsets, seq_len=steps)
        timed = apply_rotary_time_emb(hidden, cosine, sine)
        return EncodedWindows(self.model.model.multi_modal_projector(timed)[valid], attention)

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        """The recording stands between two markers, which the template leaves to the processor."""
        ids, config = super().prompt_ids(question, choices), self.model.config
        before = [*ids.before, config.audio_bos_token_id]
        return PromptIds(before, [config.audio_eos_token_id, *ids.after], ids.text)
