"""Families whose class transformers has: loading, shapes, random weights, decoder and tokenizer.

Nothing but the stock class is used, and nothing but safetensors is read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence, Set
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from speechprune_cli import costs
from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.backends.shape import Shape, read_decoder
from speechprune_cli.checkpoint import Checkpoint
from speechprune_cli.config import Preset
from speechprune_cli.errors import ModelError, UsageError, one_line
from speechprune_cli.flow import FirstLayer

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.config import Decoder
    from speechprune_cli.device import Placement

UNREADABLE = (OSError, ValueError, KeyError, TypeError)  # what transformers raises for bad files


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
    unquantised = ("model.audio_tower", "model.multi_modal_projector", "lm_head")
    """Modules that stay in 16 bits, by their full prefix: a bare name is silently ignored."""

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
        self.tokenizer, self.extractor = processor.tokenizer, processor.feature_extractor
        self.attention_implementation = model.config._attn_implementation
        self.end_tokens = end_tokens(model, processor.tokenizer)

    @classmethod
    def load(cls, preset: Preset, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Stock model and processor. Raises `ModelError`, `OutOfMemoryError`."""
        from transformers.utils import logging

        logging.set_verbosity_error()  # what matters is said by the command
        logging.disable_progress_bar()
        source = stock(cls.processor_class)
        try:
            processor = source.from_pretrained(checkpoint.folder, local_files_only=True)
        except UNREADABLE as error:
            raise ModelError(
                f"{checkpoint.folder}: no usable tokenizer and feature extractor: {one_line(error)}"
            ) from error
        model = load_weights(cls, checkpoint, placement)
        shape = cls.shape_of(preset, model.config, checkpoint.parameters)
        return cls(preset, shape, checkpoint, placement, model, processor)

    @classmethod
    def describe(cls, preset: Preset, folder: Path) -> Shape:
        """From `config.json`, checked against the model built without memory for its weights."""
        import torch

        config = read_config(folder)
        try:
            with torch.device("meta"):
                model = stock(cls.model_class)(config)
        except (*UNREADABLE, AttributeError, ImportError) as error:
            raise ModelError(f"{folder / 'config.json'}: {one_line(error)}") from error
        shape = cls.shape_of(preset, config, sum(each.numel() for each in model.parameters()))
        check_decoder(preset.source, shape.decoder, model.get_decoder())
        return shape

    @classmethod
    def shape_of(cls, preset: Preset, config: Any, parameters: int) -> Shape:
        """What the costs of a model of this configuration follow from."""
        decoder = read_decoder(preset.source, config.get_text_config(decoder=True))
        encoder = cls.encoder_shape.read(config.audio_config)
        return Shape(preset.name, cls.family, decoder, encoder, parameters)

    @classmethod
    def random(cls, preset: Preset, shape: Shape, placement: Placement) -> Self:
        """Of full size, as times and memory depend on the shapes alone. Raises UsageError."""
        import torch
        from transformers import AutoConfig

        from speechprune_cli.device import memory_guard

        if placement.quantize != "none":
            raise UsageError("--random-weights come unquantised: leave --quantize out")
        text, audio = shape.decoder.model_dump(), shape.encoder.model_dump()
        config = AutoConfig.for_model(cls.model_types[0], text_config=text, audio_config=audio)
        needed = shape.parameters * placement.dtype.itemsize
        hint = "--dtype bfloat16, another --device or the model nano"
        torch.manual_seed(0)
        guard = memory_guard(f"building {preset.name}", needed, placement.device, hint)
        with guard, placement.device:
            model = stock(cls.model_class)._from_config(
                config, dtype=placement.dtype, attn_implementation="sdpa"
            )
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

    def head(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(hidden)

    def text_ids(self, text: str) -> list[int]:
        return self.tokenizer(text.strip(), add_special_tokens=False).input_ids

    @property
    def control_ids(self) -> Set[int]:
        added: Set[int] = self.tokenizer.added_tokens_decoder.keys()
        return added

    def text_of(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def first_layer(self) -> FirstLayer:
        """A quantised model's packed layout is no use for signs: those come from the checkpoint."""
        attention, decoder = self.decoder.layers[0].self_attn, self.shape.decoder
        if self.quantize == "none":
            weights = [attention.q_proj.weight.detach(), attention.k_proj.weight.detach()]
        else:
            weights = [
                self.checkpoint.read_tensor(self.decoder_name, f"layers.0.self_attn.{name}.weight")
                for name in ("q_proj", "k_proj")
            ]
        query, key = (weight.to(self.device) for weight in weights)
        return FirstLayer(query, key, decoder.num_attention_heads, decoder.num_key_value_heads)


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


def stock(name: str) -> Any:
    """A class of transformers by its name."""
    import transformers

    return getattr(transformers, name)


def read_config(folder: Path) -> Any:
    """A model's configuration. Raises ModelError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (*UNREADABLE, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'}: {one_line(error)}") from error


def load_weights(family: type[StockLM], checkpoint: Checkpoint, placement: Placement) -> Any:
    """The stock model, every weight on its device. Raises `ModelError`, `OutOfMemoryError`."""
    from speechprune_cli.device import memory_guard

    device, quantize = placement.device, placement.quantize
    needed = checkpoint.parameters * placement.dtype.itemsize
    if quantize != "none":
        text = read_config(checkpoint.folder).get_text_config(decoder=True)
        decoder = read_decoder(checkpoint.source, text)
        needed = int(costs.weights_bytes(decoder, checkpoint.parameters, quantize))
    cuda = device.type == "cuda"
    hint = "--quantize nf4 or --device cpu" if cuda else "--dtype bfloat16 or --model nano"
    with memory_guard(f"loading {checkpoint.source}", needed, device, hint):
        try:
            model, report = stock(family.model_class).from_pretrained(
                checkpoint.folder,
                dtype=placement.dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                output_loading_info=True,
                **quantisation(family.unquantised, placement),
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"cannot load {checkpoint.folder}: {one_line(error)}") from error
    check_complete(checkpoint, report)
    return (model if quantize != "none" else model.to(device)).eval()


def check_complete(checkpoint: Checkpoint, report: dict[str, Any]) -> None:
    """Raise ModelError where weights are missing or of another shape than the configuration's."""
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{checkpoint.folder}: {len(missing)} weights missing, as {missing[0]}")
    if wrong := sorted(report["mismatched_keys"]):
        name, stored, expected = wrong[0]
        raise ModelError(
            f"{checkpoint.folder}: {name} is {list(stored)}, config.json says {list(expected)}"
        )


def quantisation(unquantised: Sequence[str], placement: Placement) -> dict[str, Any]:
    """What `from_pretrained` is told of a placement, the modules `unquantised` left in 16 bits."""
    from transformers import BitsAndBytesConfig

    if placement.quantize == "none":
        return {}
    config = BitsAndBytesConfig(
        load_in_8bit=placement.quantize == "int8",
        load_in_4bit=placement.quantize == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=placement.dtype,
        llm_int8_skip_modules=list(unquantised),
    )
    return {"quantization_config": config, "device_map": {"": placement.device}}


def check_decoder(source: str, decoder: Decoder, language_model: Any) -> None:
    """Raise ModelError unless the decoder's layers hold the weights that `costs.py` counts."""
    from torch import nn

    layers = [module for module in language_model.modules() if isinstance(module, nn.Linear)]
    held, counted = sum(each.weight.numel() for each in layers), costs.linear_parameters(decoder)
    if held != counted:
        raise ModelError(
            f"{source}: its decoder's linear layers hold {held:,} weights where attention and a "
            f"gated MLP hold {counted:,}: no such decoder can be counted yet"
        )


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end an answer. Raises ModelError where none is named."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        raise ModelError("neither generation_config.json nor the tokenizer names an end token")
    return frozenset(ends if isinstance(ends, list) else [ends])
