"""A causal text model that reads: ours where it is of Llama's kind, else the stock class."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from speechprune_cli import costs
from speechprune_cli.backends import _llama
from speechprune_cli.backends.shape import read_decoder
from speechprune_cli.backends.stock import StockDecoder
from speechprune_cli.checkpoint import UNREADABLE
from speechprune_cli.device import memory_guard
from speechprune_cli.errors import ModelError, one_line

if TYPE_CHECKING:
    from speechprune_cli.checkpoint import Checkpoint
    from speechprune_cli.config import Decoder
    from speechprune_cli.device import Placement


WORDS = "model.embed_tokens.weight"
FIRST_LAYER = tuple(f"model.layers.0.self_attn.{name}_proj.weight" for name in "qk")


class Reader(Protocol):
    """What the family `transcript` asks of a text model; see `SpeechLM` for the meanings."""

    attention: str
    shape: Decoder

    @property
    def word_embeddings(self) -> Tensor: ...
    def embed_rows(self, ids: Tensor) -> Tensor: ...
    def new_cache(self) -> Any: ...
    def fork_cache(self, cache: Any) -> Any: ...
    def run_decoder(
        self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: Any
    ) -> Tensor: ...
    def head(self, hidden: Tensor) -> Tensor: ...
    def projections(self) -> tuple[Tensor, Tensor]: ...


class LlamaReader:
    """Weights of the dtype asked for stay on the disk, mapped into memory."""

    attention = "sdpa"

    def __init__(self, shape: Decoder, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
        self.shape, self.weights = shape, weights
        self.decoder = _llama.LlamaDecoder(config, weights)
        tied = config.get("tie_word_embeddings")
        output = weights.get("lm_head.weight")  # None where another process decodes
        self.output: Any = self.word_embeddings if tied else output

    @property
    def word_embeddings(self) -> Tensor:
        return self.weights[WORDS]

    def embed_rows(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.word_embeddings)

    def new_cache(self) -> _llama.KVCache:
        return _llama.KVCache()

    def fork_cache(self, cache: Any) -> Any:
        return cache.fork()

    def run_decoder(
        self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: Any
    ) -> Tensor:
        return self.decoder(embeds, positions, mask, cache)

    def head(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.output)

    def projections(self) -> tuple[Tensor, Tensor]:
        query, key = (self.weights[name] for name in FIRST_LAYER)
        return query, key


class StockReader(StockDecoder):
    """Any other `AutoModelForCausalLM`, and all that are quantised."""

    def __init__(self, shape: Decoder, model: Any, checkpoint: Checkpoint) -> None:
        self.shape, self.model, self.checkpoint = shape, model, checkpoint
        self.attention = model.config._attn_implementation

    def head(self, hidden: Tensor) -> Tensor:
        config, logits = self.decoder.config, self.model.get_output_embeddings()(hidden)
        logits = logits * (getattr(config, "logit_scale", None) or 1.0)  # Cohere
        logits = logits / (getattr(config, "logits_scaling", None) or 1.0)  # Granite
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def projections(self) -> tuple[Tensor, Tensor]:
        """From the checkpoint: a quantised model's packed layout is no use for signs."""
        attention, read = "layers.0.self_attn.", self.checkpoint.read_tensor
        if self.checkpoint.has_tensor(attention, "qkv_proj.weight"):
            query, key = costs.query_width(self.shape), costs.key_width(self.shape)
            fused = read(attention, "qkv_proj.weight")
            return fused[:query], fused[query : query + key]
        return read(attention, "q_proj.weight"), read(attention, "k_proj.weight")


def load_reader(checkpoint: Checkpoint, placement: Placement) -> Reader:
    """The text model in a folder. Raises `ModelError`, `OutOfMemoryError`."""
    config = checkpoint.config
    _check_causal(checkpoint)
    if placement.quantize == "none" and _llama.understood(config):
        return _load_llama(checkpoint, placement)
    return _load_stock(checkpoint, placement)


def _check_causal(checkpoint: Checkpoint) -> None:
    """Raise ModelError for a model that does not write on."""
    found = checkpoint.config.get("architectures") or [""]
    if not str(found[0]).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        raise ModelError(
            f"{checkpoint.source} is a {found[0] or 'model of no named architecture'}: "
            "a reader has to be a causal language model (...ForCausalLM)"
        )


def _load_llama(checkpoint: Checkpoint, placement: Placement) -> LlamaReader:
    from safetensors.torch import load_file

    shape = read_decoder(checkpoint.source, SimpleNamespace(**checkpoint.config))
    sizes = dict(_expected(shape, checkpoint.config))
    needed = checkpoint.parameters * placement.dtype.itemsize
    if not placement.decoder:
        sizes = {name: sizes[name] for name in (WORDS, *FIRST_LAYER)}
        needed = sum(map(math.prod, sizes.values())) * placement.dtype.itemsize
    with memory_guard(f"loading {checkpoint.source}", needed, placement.device, _hint(placement)):
        weights: dict[str, Tensor] = {}
        for path in checkpoint.weights:
            for name, weight in load_file(path).items():
                if placement.decoder or name in sizes:
                    weights[name] = weight.to(placement.device, placement.dtype)
    _check_weights(checkpoint, sizes, weights)
    return LlamaReader(shape, checkpoint.config, weights)


def _check_weights(
    checkpoint: Checkpoint, sizes: dict[str, tuple[int, ...]], weights: dict[str, Tensor]
) -> None:
    """Raise ModelError where one is missing, or of another shape than the configuration's."""
    for name, expected in sizes.items():
        if name not in weights:
            raise ModelError(f"{checkpoint.folder}: weights missing, as {name}")
        if weights[name].shape != expected:
            found = list(weights[name].shape)
            raise ModelError(
                f"{checkpoint.folder}: {name} is {found}, config.json says {list(expected)}"
            )


def _expected(shape: Decoder, config: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    width, inner = shape.hidden_size, shape.intermediate_size
    query, key = costs.query_width(shape), costs.key_width(shape)
    layer = {
        "self_attn.q_proj": (query, width),
        "self_attn.k_proj": (key, width),
        "self_attn.v_proj": (key, width),
        "self_attn.o_proj": (width, query),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }
    found: list[tuple[str, tuple[int, ...]]] = [
        (WORDS, (shape.vocab_size, width)),
        ("model.norm.weight", (width,)),
    ]
    for number in range(shape.num_hidden_layers):
        found += [(f"model.layers.{number}.{name}.weight", each) for name, each in layer.items()]
    if not config.get("tie_word_embeddings"):
        found.append(("lm_head.weight", (shape.vocab_size, width)))
    return found


def _load_stock(checkpoint: Checkpoint, placement: Placement) -> StockReader:
    from transformers.utils import logging

    from speechprune_cli.backends.loading import (
        check_complete,
        quantisation,
        read_config,
        stock,
        without_layers,
    )

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config = read_config(checkpoint.folder)
    shape = read_decoder(checkpoint.source, config.get_text_config(decoder=True))
    needed = int(costs.weights_bytes(shape, checkpoint.parameters, _counted(placement)))
    if not placement.decoder:
        needed -= costs.held_parameters(shape) * placement.dtype.itemsize
        without_layers(config)
    with memory_guard(f"loading {checkpoint.source}", needed, placement.device, _hint(placement)):
        try:
            model, report = stock("AutoModelForCausalLM").from_pretrained(
                checkpoint.folder,
                config=config,
                dtype=placement.dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **quantisation(("lm_head",), placement),
            )
        except (*UNREADABLE, ImportError) as error:
            raise ModelError(f"cannot load {checkpoint.folder}: {one_line(error)}") from error
    check_complete(checkpoint.folder, report)
    if placement.decoder:
        _check_cache(checkpoint, model)
    model = (model if placement.quantize != "none" else model.to(placement.device)).eval()

    return StockReader(shape, model, checkpoint)


def _check_cache(checkpoint: Checkpoint, model: Any) -> None:
    """Raise ModelError for layers whose memory cannot be forked: state spaces, linear attention."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    for layer in DynamicCache(config=model.get_decoder().config).layers:
        if not isinstance(layer, DynamicLayer):
            kind = type(layer).__name__
            raise ModelError(f"{checkpoint.source} has layers of a kind that is not read: {kind}")


def _counted(placement: Placement) -> str:
    """As `costs.BYTES` calls it."""
    if placement.quantize != "none":
        return placement.quantize
    return str(placement.dtype).removeprefix("torch.")


def _hint(placement: Placement) -> str:
    if placement.device.type == "cuda":
        return "--quantize nf4 or --device cpu"
    smaller = "a smaller reader: speechprune models says what fits"
    return smaller if placement.dtype.itemsize < 4 else f"--dtype bfloat16, or {smaller}"


def random_reader(shape: Decoder, placement: Placement) -> LlamaReader:
    """Of that shape, its weights drawn at random; times and memory depend on the shape alone."""
    config = {**shape.model_dump(), "rms_norm_eps": 1e-6}
    generator = torch.Generator().manual_seed(0)
    sizes = _expected(shape, config)
    needed = sum(math.prod(size) for _, size in sizes) * placement.dtype.itemsize
    with memory_guard("building a reader", needed, placement.device, _hint(placement)):
        weights = {
            name: (torch.randn(size, generator=generator) * 0.02 + (len(size) == 1)).to(
                placement.device, placement.dtype
            )
            for name, size in sizes
        }
    return LlamaReader(shape, config, weights)
