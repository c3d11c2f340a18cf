"""Ultravox: Whisper's encoder, eight of its positions stacked to a token, a text model that reads.

As its own processor has it, the mel frames of a whole recording are cut into windows of 30 s, the
last of several filled up; what was filled up is not attended to. The text model is the checkpoint
that config.json names, and the encoder too where the model's own weights have none. The question
follows the recording, on a line of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt

from speechprune_cli.backends._prompts import with_options
from speechprune_cli.backends.composed import ComposedLM, open_part, part_config, tensors
from speechprune_cli.backends.shape import HOP
from speechprune_cli.backends.windowed import EncodedWindows, WhisperShape
from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import ENCODER_ATTENTION, SAMPLE_RATE, Audio, PromptIds

if TYPE_CHECKING:
    from torch import Tensor, nn

SHORTEST = 2  # mel frames: what is shorter is filled up


class UltravoxShape(WhisperShape):
    """Whisper's encoder and the projector; each window ends with a token of its own."""

    mel_of_all: ClassVar[bool] = True
    stack_factor: PositiveInt = 8
    hidden_size: PositiveInt = 4096  # of the projector
    projector_ln_mid: bool = False

    def frames(self, samples: int) -> int:
        """Mel frames of a recording."""
        return max(SHORTEST, -(-samples // HOP)) if samples else 0

    def stacked(self, frames: int) -> int:
        """Tokens of the frames of one window."""
        return -(-frames // (2 * self.stack_factor))

    def tokens(self, samples: int) -> int:
        whole, rest = divmod(self.frames(samples), 2 * self.max_source_positions)
        return whole * self.stacked(2 * self.max_source_positions) + self.stacked(rest)

    def projector_flops(self, hidden_size: int) -> int:
        return self._project(self.stacked(2 * self.max_source_positions), hidden_size)

    def _project(self, tokens: int, hidden_size: int) -> int:
        inputs = self.stack_factor * self.d_model
        return 2 * tokens * (inputs * self.hidden_size + self.hidden_size // 2 * hidden_size)

    def flops(self, seconds: float, hidden_size: int) -> int:
        """A recording of one window is not filled up."""
        frames = self.frames(round(seconds * SAMPLE_RATE))
        if frames > 2 * self.max_source_positions:
            return super().flops(seconds, hidden_size)
        return self.window_flops(frames) + self._project(self.stacked(frames), hidden_size)


class Ultravox(ComposedLM):
    """An Ultravox as Fixie publishes it."""

    family = "ultravox"
    model_types = ("ultravox",)
    code_version = "ultravox/1"
    encoder_shape = UltravoxShape
    provides = frozenset({ENCODER_ATTENTION})
    encoder_key = "audio_model_id"
    reader_key = "text_model_id"
    own_tokenizer = True

    @classmethod
    def parts(cls, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
        """The encoder's is the model's own where none is named."""
        if checkpoint.config.get(cls.encoder_key):
            return super().parts(checkpoint)
        return checkpoint, open_part(checkpoint, cls.reader_key)

    @classmethod
    def encoder_of(cls, folder: Path, config: Mapping[str, Any]) -> UltravoxShape:
        from transformers import WhisperConfig

        for key, known in (("projector_act", "swiglu"), ("audio_latency_block_size", None)):
            if config.get(key, known) != known:
                raise ModelError(f"{folder / 'config.json'}: {key} is {config[key]}: not known")
        if config.get(cls.encoder_key):
            whisper = part_config(folder, config, cls.encoder_key)
        else:
            whisper = WhisperConfig(**config.get("audio_config", {}))
        heard = {name: getattr(whisper, name) for name in WhisperShape.model_fields}
        own = set(UltravoxShape.model_fields) - set(heard)
        return UltravoxShape(**heard, **{key: config[key] for key in own if key in config})

    @classmethod
    def build(cls, encoder: Any, hidden_size: int) -> nn.Module:
        from torch import nn
        from transformers import WhisperConfig
        from transformers.models.llama.modeling_llama import LlamaRMSNorm
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        config = WhisperConfig(**encoder.model_dump(include=set(WhisperShape.model_fields)))
        inputs, inner = encoder.stack_factor * encoder.d_model, encoder.hidden_size
        projector = nn.Module()
        projector.ln_pre = LlamaRMSNorm(inputs, eps=1e-6)
        projector.linear_1 = nn.Linear(inputs, inner, bias=False)
        projector.linear_2 = nn.Linear(inner // 2, hidden_size, bias=False)
        if encoder.projector_ln_mid:
            projector.ln_mid = LlamaRMSNorm(inner // 2, eps=1e-6)
        else:
            projector.ln_post = LlamaRMSNorm(hidden_size, eps=1e-6)
        sound = nn.Module()
        sound.audio_tower, sound.multi_modal_projector = WhisperEncoder(config), projector
        return sound

    @classmethod
    def weights(cls, checkpoint: Checkpoint, whisper: Checkpoint) -> dict[str, Tensor]:
        """An encoder that was trained further is among the model's own."""
        own = tensors(checkpoint, {"": ""})
        return tensors(whisper, {"model.encoder.": "audio_tower."}) | own

    @property
    def factor(self) -> int:
        """Positions of the encoder that make a token."""
        return self.sound.multi_modal_projector.linear_1.in_features // self.encoder.d_model

    def windows(self, audio: Audio) -> list[tuple[Tensor, int]]:
        """Mel frames `[bins, F]` of each, and how many of them are of the recording."""
        import numpy as np
        from torch.nn.functional import pad

        missing = max(0, SHORTEST * HOP - len(audio.samples))
        features = self.extractor(
            np.pad(audio.samples, (0, missing)),
            sampling_rate=SAMPLE_RATE,
            padding="longest",
            pad_to_multiple_of=HOP,
            truncation=False,
            return_tensors="pt",
        )["input_features"][0]
        size = 2 * self.encoder.max_source_positions
        pieces = features.split(size, dim=-1)
        filled = size if len(pieces) > 1 else pieces[0].shape[-1]
        return [(pad(each, (0, filled - each.shape[-1])), each.shape[-1]) for each in pieces]

    def encode_windows(self, windows: Sequence[tuple[Tensor, int]]) -> EncodedWindows:
        """Tokens of a batch of windows, and the attention they receive in the last layer."""
        import torch

        from speechprune_cli.backends.listening import attention_received

        frames = torch.stack([each for each, _ in windows]).to(self.device, self.dtype)
        counts = torch.tensor([count for _, count in windows], device=self.device)
        steps = torch.arange((frames.shape[-1] + 1) // 2, device=self.device)
        valid = steps < (counts[:, None] + 1) // 2
        with attention_received(self.sound.audio_tower.layers[-1].self_attn) as received:
            stacked = self.stacked(self.listen(frames, valid))
        positions = self.stacked(valid[..., None].float()).sum(-1)
        attention = self.stacked(received[0][..., None]).sum(-1) / positions.clamp(min=1)
        spoken = positions > 0
        return EncodedWindows(self.project(stacked)[spoken], attention[spoken])

    def listen(self, frames: Tensor, valid: Tensor) -> Tensor:
        """Hidden states `[B, T, d]` of mel frames `[B, bins, F]`; T of them are `valid` `[B, T]`.

        transformers' own forward takes whole windows alone, and no mask.
        """
        import torch
        from torch.nn.functional import gelu

        tower = self.sound.audio_tower
        hidden = gelu(tower.conv2(gelu(tower.conv1(frames)))).transpose(1, 2)
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        mask = torch.zeros_like(valid, dtype=self.dtype)
        mask = mask.masked_fill(~valid, torch.finfo(self.dtype).min)[:, None, None]
        for layer in tower.layers:
            hidden = layer(hidden, mask)
        return tower.layer_norm(hidden)

    def stacked(self, hidden: Tensor) -> Tensor:
        """`[B, T, d]` as `[B, n, stack_factor * d]`, zeros behind the end."""
        from torch.nn.functional import pad

        hidden = pad(hidden, (0, 0, 0, -hidden.shape[1] % self.factor))
        return hidden.reshape(len(hidden), -1, self.factor * hidden.shape[-1])

    def project(self, stacked: Tensor) -> Tensor:
        """Tokens `[B, n, D]`; which of two norms there is depends on the version."""
        from torch.nn.functional import silu

        projector = self.sound.multi_modal_projector
        hidden, gate = projector.linear_1(projector.ln_pre(stacked)).chunk(2, dim=-1)
        hidden = silu(gate) * hidden
        if hasattr(projector, "ln_mid"):
            return projector.linear_2(projector.ln_mid(hidden))
        return projector.ln_post(projector.linear_2(hidden))

    def times(self, count: int, audio: Audio) -> Tensor:
        """Each window's begin with it; its last token is cut off at its end."""
        import torch

        window = self.encoder.input_tokens
        step = self.factor * 30.0 / self.encoder.max_source_positions
        places = torch.arange(count, dtype=torch.float64)
        first = 30.0 * (places // window)
        starts = first + step * (places % window)
        ends = torch.minimum(starts + step, first + 30.0)
        return torch.stack([starts, ends], dim=1).clamp(max=audio.seconds).float()

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        return self.chat.prompt("", f"\n{with_options(question, choices)}", "<|audio|>")
