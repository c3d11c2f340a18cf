"""Families whose class transformers has: shapes, random weights, decoder and tokenizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence, Set
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from speechprune_cli.backends import lora
from speechprune_cli.backends._prompts import around, with_options
from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.backends.loading import (
    built,
    check_decoder,
    end_tokens,
    leave_out,
    load_weights,
    read_config,
    stock,
    stored_parameters,
)
from speechprune_cli.backends.shape import Shape, read_decoder
from speechprune_cli.checkpoint import UNREADABLE, Checkpoint
from speechprune_cli.config import Preset
from speechprune_cli.errors import ModelError, UsageError, one_line
from speechprune_cli.flow import FirstLayer, PromptIds

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.config import Decoder
    from speechprune_cli.device import Placement

COUNTED = {"adapter_rank", "adapter_modules", "kinds", "weights_beside", "more"}
"""Fields of a decoder that costs follow from, and no configuration has."""


class StockDecoder:
    """The language model of a class in transformers: what reads, and what it remembers."""

    model: Any

    @property
    def decoder(self) -> Any:
        """Without its output head."""
        return self.model.get_decoder()

    @property
    def word_embeddings(self) -> Tensor:
        return self.model.get_input_embeddings().weight

    def embed_rows(self, ids: Tensor) -> Tensor:
        return self.model.get_input_embeddings()(ids)

    def new_cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.decoder.config)

    def fork_cache(self, cache: Any) -> Any:
        return fork_dynamic(cache)

    def run_decoder(
        self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: Any
    ) -> Tensor:
        return self.decoder(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=mask,
            cache=cache,
            use_cache=True,
        ).last_hidden_state


class StockLM(StockDecoder, SpeechLM):
    """A model of a class in transformers, with a decoder of its and a processor."""

    model_class: ClassVar[str]  # by its name in transformers
    processor_class: ClassVar[str]
    decoder_name = "language_model"  # in the names of its weights
    unquantised: ClassVar[tuple[str, ...]] = (
        "model.audio_tower",
        "model.multi_modal_projector",
        "lm_head",
    )
    """Modules that stay in 16 bits, by their full prefix: a bare name is silently ignored."""
    attention: ClassVar[str | None] = "sdpa"  # None: each part as transformers chooses
    adapter: ClassVar[str | None] = None
    """Folder, in the checkpoint's, of a LoRA adapter to read audio with, where one is there."""
    left_out: ClassVar[frozenset[str]] = frozenset()
    """Parts of a checkpoint that sound and text need nothing of, by the names of their modules."""
    audio_content: ClassVar[dict[str, str]] = {"type": "audio", "audio": "audio"}
    """What stands for the recording in a message that the chat template is given."""

    def __init__(
        self,
        preset: Preset,
        shape: Shape,
        checkpoint: Checkpoint,
        placement: Placement,
        model: Any,
        processor: Any,
    ) -> None:
        super().__init__(preset, shape, checkpoint, placement)
        self.model, self.processor = model, processor
        self.longest_seconds = self.longest_seconds or getattr(processor, "max_audio_len", None)
        self.tokenizer, self.extractor = processor.tokenizer, processor.feature_extractor
        self.attention_implementation = model.config._attn_implementation
        self.end_tokens = end_tokens(model, processor.tokenizer)

    @classmethod
    def load(cls, preset: Preset, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Stock model and processor. Raises `ModelError`, `OutOfMemoryError`."""
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        checkpoint = replace(checkpoint, left_out=cls.left_out)
        try:
            processor = cls.read_processor(checkpoint.folder)
        except UNREADABLE as error:
            raise ModelError(
                f"{checkpoint.folder}: no usable tokenizer and feature extractor: {one_line(error)}"
            ) from error
        if adapter := cls.adapter_of(checkpoint.folder):
            weights = (*checkpoint.weights, lora.weight_file(adapter))
            checkpoint = replace(checkpoint, weights=weights)
        cls.check_template(checkpoint, processor)
        model = load_weights(cls, checkpoint, placement)
        config = cls.read_config(checkpoint.folder)
        shape = cls.shape_of(preset, config, checkpoint.parameters)
        shape = lora.with_adapter(shape, model.get_decoder().layers)
        return cls(preset, shape, checkpoint, placement, model, processor)

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        """Tokenizer, feature extractor and chat template, as the class of transformers has them."""
        return stock(cls.processor_class).from_pretrained(folder, local_files_only=True)

    @classmethod
    def check_template(cls, checkpoint: Checkpoint, processor: Any) -> None:
        """Raise ModelError where there is no chat template."""
        holder = processor if hasattr(processor, "chat_template") else processor.tokenizer
        if not holder.chat_template:
            missing = "has no chat template: chat_template.jinja is missing"
            raise ModelError(f"{checkpoint.folder} {missing}, get it from {checkpoint.page}")

    @classmethod
    def read_config(cls, folder: Path) -> Any:
        """The configuration of the model, or of the part of it that is run. Raises ModelError."""
        return read_config(folder)

    @classmethod
    def adapter_of(cls, folder: Path) -> Path | None:
        """Where the adapter of a checkpoint lies, if it has one."""
        if cls.adapter is None or not (folder / cls.adapter / lora.CONFIG).is_file():
            return None
        return folder / cls.adapter

    @classmethod
    def describe(cls, preset: Preset, folder: Path) -> Shape:
        """From `config.json`, checked against the model built without memory for its weights."""
        config = cls.read_config(folder)
        try:
            model: Any = built(lambda: stock(cls.model_class)(config))
        except (*UNREADABLE, ImportError) as error:
            raise ModelError(f"{folder / 'config.json'}: {one_line(error)}") from error
        model = leave_out(cls.left_out, model)
        if adapter := cls.adapter_of(folder):
            lora.add_empty(model, adapter)
        shape = cls.shape_of(preset, config, stored_parameters(model))
        shape = lora.with_adapter(shape, model.get_decoder().layers)
        check_decoder(preset.source, shape.decoder, model.get_decoder().layers)
        return shape

    @classmethod
    def shape_of(cls, preset: Preset, config: Any, parameters: int) -> Shape:
        """What the costs of a model of this configuration follow from."""
        decoder = cls.read_decoder(preset.source, config)
        encoder = cls.encoder_shape.read(cls.encoder_config(config))
        return Shape(preset.name, cls.family, decoder, encoder, parameters)

    @classmethod
    def read_decoder(cls, source: str, config: Any) -> Decoder:
        """Of a model's configuration. Raises ModelError for one that cannot be counted."""
        return read_decoder(source, config.get_text_config(decoder=True))

    @classmethod
    def encoder_config(cls, config: Any) -> Any:
        """Where a model's configuration has the fields of the family's `EncoderShape`."""
        return config.audio_config

    @classmethod
    def configs(cls, shape: Shape) -> dict[str, Any]:
        """The parts of a configuration of that shape."""
        decoder = shape.decoder
        text = decoder.model_dump(exclude=COUNTED, exclude_none=True) | decoder.more
        return {"text_config": text, "audio_config": shape.encoder.model_dump(by_alias=True)}

    @classmethod
    def config_of(cls, shape: Shape) -> Any:
        """The configuration of a model of that shape, all else as by default."""
        from transformers import AutoConfig

        return AutoConfig.for_model(cls.model_types[0], **cls.configs(shape))

    @classmethod
    def random(cls, preset: Preset, shape: Shape, placement: Placement) -> Self:
        """Of full size, as times and memory depend on the shapes alone. Raises UsageError."""
        import torch

        from speechprune_cli.device import memory_guard

        if placement.quantize != "none":
            raise UsageError("--random-weights come unquantised: leave --quantize out")
        needed = shape.parameters * placement.dtype.itemsize
        hint = "--dtype bfloat16, another --device or the model nano"
        torch.manual_seed(0)
        guard = memory_guard(f"building {preset.name}", needed, placement.device, hint)
        with guard, placement.device:
            model = stock(cls.model_class)._from_config(
                cls.config_of(shape), dtype=placement.dtype, attn_implementation=cls.attention
            )
            if shape.decoder.adapter_rank:
                lora.add_random(model.get_decoder().layers, shape.decoder)
        model = leave_out(cls.left_out, model)
        model.generation_config.eos_token_id = 0
        processor = SimpleNamespace(
            feature_extractor=cls.random_extractor(shape),
            tokenizer=_Wordless(),
        )
        checkpoint = Checkpoint(Path(), preset.source, "random weights", {}, ())
        return cls(preset, shape, checkpoint, placement, model.eval(), processor)

    @classmethod
    @abstractmethod
    def random_extractor(cls, shape: Shape) -> Any:
        """The feature extractor that goes with a shape."""

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        """The model's own chat template around the audio, the question and the options."""
        text = self.processor.apply_chat_template(
            self.messages(with_options(question, choices)),
            add_generation_prompt=True,
            tokenize=False,
        )
        ids = self.tokenizer(text).input_ids
        return around(self.model.config.audio_token_id, ids, text, self.tokenizer)

    def messages(self, asked: str) -> list[dict[str, Any]]:
        """What the chat template is given: the recording, then what is asked about it."""
        content = [self.audio_content, {"type": "text", "text": asked}]
        return [{"role": "user", "content": content}]

    def head(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(hidden)

    def text_ids(self, text: str) -> list[int]:
        return self.tokenizer(text.strip(), add_special_tokens=False).input_ids

    @property
    def control_ids(self) -> Set[int]:
        """All that were added, but runs of line breaks and spaces, which some vocabularies add."""
        added = self.tokenizer.added_tokens_decoder.items()
        return {number for number, token in added if not str(token).isspace()}

    def text_of(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def first_layer(self) -> FirstLayer:
        """From the checkpoint where there is no decoder, or one packed so that signs are lost."""
        query, key = self.query_and_key()
        decoder = self.shape.decoder
        return FirstLayer(query, key, decoder.num_attention_heads, decoder.num_key_value_heads)

    def query_and_key(self) -> tuple[Tensor, Tensor]:
        """Projections `[heads * head_dim, D]` of the first layer, where they are by themselves."""
        return self.attention_weight("q_proj"), self.attention_weight("k_proj")

    def attention_weight(self, name: str) -> Tensor:
        """Of a linear layer in the first layer's attention, an adapter's share added."""
        suffix = f"layers.0.self_attn.{name}.weight"
        if not len(self.decoder.layers):
            weight = self.checkpoint.read_tensor(self.decoder_name, suffix)
            return weight.to(self.device, self.dtype)
        module = getattr(self.decoder.layers[0].self_attn, name)
        if self.quantize == "none":
            weight = module.weight.detach()
        else:
            weight = self.checkpoint.read_tensor(self.decoder_name, suffix)
        return lora.merged(module, weight.to(self.device))


class _Wordless:
    """A tokenizer of random weights: any text is the same tokens."""

    added_tokens_decoder: ClassVar[dict[int, str]] = {}

    def __call__(self, _text: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=list(range(8)))


def fork_dynamic(cache: Any) -> Any:
    """Of transformers' `DynamicCache`: its layers put new tensors in the place of their old."""
    fork = copy(cache)
    fork.layers = [copy(layer) for layer in cache.layers]
    return fork
