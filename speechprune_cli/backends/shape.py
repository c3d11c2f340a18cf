"""What a model's costs follow from, known without weights: from a preset, or from a config.json."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import ValidationError

from speechprune_cli.config import Decoder, Frozen, Preset
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE

HOP = 160  # samples of a mel frame
BATCH_SIZE = 4  # windows encoded side by side, where nobody asks for another number


class EncoderShape(Frozen, ABC):
    """How many tokens a recording becomes and what that costs: each family has a subclass.

    Its fields are named as the encoder's configuration names them, by an alias where that has
    other names than its kind.
    """

    input_seconds: ClassVar[float] = 30.0  # of recording that B1 is made of by default
    own_input: ClassVar[bool] = False  # whether it was trained on that; else as in the paper
    exact: ClassVar[bool] = True  # False: how many tokens there are depends on what is said

    @abstractmethod
    def tokens(self, samples: int) -> int:
        """N of a recording of so many samples at 16 kHz, to the last one."""

    @abstractmethod
    def flops(self, seconds: float, hidden_size: int) -> int:
        """Operations to encode a recording into tokens of the decoder's width."""

    @abstractmethod
    def bytes(self, seconds: float, bytes_per_value: int, batch_size: int = BATCH_SIZE) -> int:
        """What encoding holds at its peak, about, beside the weights and the tokens made."""

    @property
    def input_tokens(self) -> int:
        """B1 by default."""
        return self.tokens(round(self.input_seconds * SAMPLE_RATE))

    @property
    def per_second(self) -> float:
        """f in the paper, over `input_seconds`."""
        return self.input_tokens / self.input_seconds

    @classmethod
    def read(cls, config: Any) -> Self:
        """From a configuration whose attributes have the names of the fields, or their aliases."""
        names = [field.alias or name for name, field in cls.model_fields.items()]
        return cls(**{name: getattr(config, name) for name in names if hasattr(config, name)})


@dataclass(frozen=True)
class Shape:
    """A model as far as its costs go."""

    name: str
    family: str
    decoder: Decoder
    encoder: EncoderShape
    parameters: int  # all weights: encoder, decoder, embeddings, head

    @property
    def input_tokens(self) -> int:
        """B1 by default."""
        return self.encoder.input_tokens

    @property
    def budget_reason(self) -> str:
        """What B1 is by default, for people."""
        seconds = f"{self.encoder.input_seconds:g} s"
        if self.encoder.own_input:
            return f"the model's own input length of {seconds}"
        if not self.encoder.exact:
            return f"what is said in {seconds}, as a guess"
        return f"{seconds} of its tokens: the model has no input length of its own"

    def audio_tokens(self, seconds: float) -> int:
        """N of a recording."""
        return self.encoder.tokens(round(seconds * SAMPLE_RATE))


def shape_of_preset(preset: Preset, family: str, encoder: type[EncoderShape]) -> Shape | None:
    """As the preset states it; None where it does not. Raises ModelError where it is wrong."""
    if preset.architecture is None or preset.parameters is None:
        return None
    try:
        found = encoder.model_validate(preset.architecture.encoder)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        message = f"preset {preset.name}: no encoder of the family {family}: {key}"
        raise ModelError(message) from error
    return Shape(preset.name, family, preset.architecture.decoder, found, preset.parameters)


def read_decoder(source: str, config: Any) -> Decoder:
    """From the configuration of a language model. Raises ModelError for one of another kind."""
    heads = getattr(config, "num_attention_heads", None)
    told = {name: getattr(config, name, None) for name in Decoder.model_fields}
    found: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    found.setdefault("head_dim", heads and config.hidden_size // heads)
    found.setdefault("num_key_value_heads", heads)
    try:
        return Decoder(**found)
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise ModelError(f"{source}: its decoder has no usable {key} to count by") from error
