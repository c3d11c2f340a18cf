"""DiVA: Whisper's encoder, Whisper's decoder as a causal Q-Former over it, Llama 3 that reads.

Whatever a window of 30 s holds becomes as many tokens as there are learned queries, 448. When
something was said can only be guessed from a token's place: times are nominal, equal shares of what
its window holds. The published code hears the first 30 s of a recording alone; here it becomes
windows, whose tokens are joined in order. The question follows the recording, in the same turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt

from speechprune_cli.backends._prompts import with_options
from speechprune_cli.backends.composed import ComposedLM, part_config, tensors
from speechprune_cli.backends.windowed import EncodedWindows, WhisperShape
from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE, Audio, PromptIds

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class DivaShape(WhisperShape):
    """A whole Whisper, its decoder without words; trained on 30 s."""

    own_input: ClassVar[bool] = True
    decoder_layers: PositiveInt
    decoder_attention_heads: PositiveInt
    decoder_ffn_dim: PositiveInt
    max_target_positions: PositiveInt  # learned queries of a window
    joined: PositiveInt = 1  # queries that make a token

    @property
    def window_tokens(self) -> int:
        """Of every window, however little it holds."""
        return self.max_target_positions // self.joined

    def tokens(self, samples: int) -> int:
        return self.windows(samples / SAMPLE_RATE) * self.window_tokens

    def projector_flops(self, hidden_size: int) -> int:
        """The Q-Former, which looks at all of a window, and what projects its queries."""
        width, steps, queries = self.d_model, self.max_source_positions, self.max_target_positions
        linears = 2 * queries * (6 * width**2 + 2 * width * self.decoder_ffn_dim)
        linears += 2 * steps * 2 * width**2
        attention = 4 * queries * (queries + steps) * width
        return self.decoder_layers * (linears + attention) + 2 * queries * width * hidden_size


class Diva(ComposedLM):
    """A DiVA as William Held publishes it."""

    family = "diva"
    model_types = ("diva",)
    code_version = "diva/1"
    encoder_shape = DivaShape
    nominal_times = True
    encoder_key = "reference_encoder"
    reader_key = "reference_decoder"
    unneeded = ("connector.embed_tokens.", "encoder.", "decoder.")
    """Word embeddings, and what was frozen when it was trained: that is the references'."""

    @classmethod
    def encoder_of(cls, folder: Path, config: Mapping[str, Any]) -> DivaShape:
        """A projection that is wider than a query takes several of them at once."""
        shape = DivaShape.read(part_config(folder, config, cls.encoder_key))
        inputs, _ = stored_shape(folder, "projection.weight") or (shape.d_model, 0)
        joined, rest = divmod(inputs, shape.d_model)
        if rest or not joined or shape.max_target_positions % joined:
            raise ModelError(
                f"{folder}: a projection of {inputs} does not fit queries of {shape.d_model}"
            )
        return shape.model_copy(update={"joined": joined})

    @classmethod
    def build(cls, encoder: Any, hidden_size: int) -> nn.Module:
        import torch
        from torch import nn
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperEncoder

        config = WhisperConfig(**encoder.model_dump(exclude={"joined"}))
        sound = nn.Module()
        sound.encoder, sound.connector = WhisperEncoder(config), WhisperDecoder(config)
        del sound.connector.embed_tokens  # queries stand in the place of words
        sound.projection = nn.Linear(encoder.joined * encoder.d_model, hidden_size)
        queries = torch.randn(encoder.max_target_positions, encoder.d_model)
        sound.query_tokens = nn.Parameter(queries)
        return sound

    @classmethod
    def weights(cls, checkpoint: Checkpoint, whisper: Checkpoint) -> dict[str, Tensor]:
        """The projection is stored transposed."""
        own = tensors(checkpoint, {"": ""}, cls.unneeded)
        found = tensors(whisper, {"model.encoder.": "encoder."}) | own
        if "projection.weight" in found:
            found["projection.weight"] = found["projection.weight"].T.contiguous()
        return found

    def encode_windows(self, windows: Sequence[np.ndarray]) -> EncodedWindows:
        features = self.extractor(list(windows), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        frames = features["input_features"].to(self.device, self.dtype)
        return EncodedWindows(self.project(frames), None)

    def project(self, frames: Tensor) -> Tensor:
        """Tokens `[n, D]` of mel frames `[B, bins, 3000]`."""
        heard = self.sound.encoder(frames).last_hidden_state
        queries = self.sound.query_tokens.expand(len(frames), -1, -1)
        found = self.sound.connector(
            inputs_embeds=queries, encoder_hidden_states=heard, use_cache=False
        ).last_hidden_state
        return self.sound.projection(found.reshape(-1, self.sound.projection.in_features))

    def times(self, count: int, audio: Audio) -> Tensor:
        """Equal shares `[N, 2]` of what each window holds."""
        import torch

        tokens = self.shape.encoder.input_tokens
        first = 30.0 * torch.arange(count // tokens, dtype=torch.float64)[:, None]
        share = (audio.seconds - first).clamp(max=30.0) / tokens
        starts = (first + share * torch.arange(tokens)).flatten()
        ends = (first + share * torch.arange(1, tokens + 1)).flatten()
        return torch.stack([starts, ends], dim=1).float()

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        return self.chat.prompt("", f"\n\n{with_options(question, choices)}", "[audio]")


def stored_shape(folder: Path, name: str) -> tuple[int, ...] | None:
    """Of a weight in a folder; None where no file has it."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                return tuple(file.get_slice(name).get_shape())
    return None
