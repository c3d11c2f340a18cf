"""Models and configurations as transformers reads them, checked to be whole and countable.

Nothing but stock classes is used, and nothing but safetensors is read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli import costs
from speechprune_cli.backends import lora
from speechprune_cli.checkpoint import UNREADABLE
from speechprune_cli.errors import ModelError, one_line

if TYPE_CHECKING:
    from torch import nn

    from speechprune_cli.backends.stock import StockLM
    from speechprune_cli.checkpoint import Checkpoint
    from speechprune_cli.config import Decoder
    from speechprune_cli.device import Placement

OLDEST = (5, 24)
"""Of transformers: older decoders leave `cache` out, and answer as if nothing had been read."""
MOST_DESCRIBED = 4  # times what is stored: checkpoints may be packed, two weights in a byte


def leave_out(parts: Set[str], model: Any) -> Any:
    """The model without some of the modules that its base is made of."""
    for name in parts & dict(model.model.named_children()).keys():
        delattr(model.model, name)
    return model


def stock(name: str) -> Any:
    """A class of transformers by its name. Raises ModelError where transformers is too old."""
    import transformers

    found = transformers.__version__
    if tuple(map(int, found.split(".")[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ModelError(
            f"transformers {found} is installed: {oldest} is needed, pip install "
            f"'transformers>={oldest},<6'"
        )
    return getattr(transformers, name)


def read_config(folder: Path) -> Any:
    """A model's configuration. Raises ModelError."""
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.set_verbosity_error()  # what matters is said by the command
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except UNREADABLE as error:
        raise ModelError(f"{folder / 'config.json'}: {one_line(error)}") from error


def load_weights(family: type[StockLM], checkpoint: Checkpoint, placement: Placement) -> Any:
    """The stock model, every weight on its device. Raises `ModelError`, `OutOfMemoryError`."""
    from speechprune_cli.device import memory_guard

    device, quantize = placement.device, placement.quantize
    config = family.read_config(checkpoint.folder)
    needed = checkpoint.parameters * placement.dtype.itemsize
    apart = not placement.decoder and not family.adapter_of(checkpoint.folder)
    if apart:
        held = costs.held_parameters(family.read_decoder(checkpoint.source, config))
        needed -= held * placement.dtype.itemsize
        without_layers(config)
    if quantize != "none":
        decoder = family.read_decoder(checkpoint.source, config)
        needed = int(costs.weights_bytes(decoder, checkpoint.parameters, quantize))
    cuda = device.type == "cuda"
    hint = "--quantize nf4 or --device cpu" if cuda else "--dtype bfloat16 or --model nano"
    loading = memory_guard(f"loading {checkpoint.source}", needed, device, hint)
    with loading, lora.base_alone(checkpoint.folder) as folder:
        model_class = stock(family.model_class)
        try:
            check_size(checkpoint.folder, lambda: model_class(config), checkpoint.parameters)
            model, report = model_class.from_pretrained(
                folder,
                config=config,
                dtype=placement.dtype,
                attn_implementation=family.attention,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                output_loading_info=True,
                **quantisation(family.unquantised, placement),
            )
        except (*UNREADABLE, ImportError) as error:
            raise ModelError(f"cannot load {checkpoint.folder}: {one_line(error)}") from error
        check_complete(checkpoint.folder, report)
        model = leave_out(family.left_out, model)
        if apart:
            model.lm_head = None
        if adapter := family.adapter_of(checkpoint.folder):
            check_complete(adapter, lora.load(model, adapter))
    return (model if quantize != "none" else model.to(device)).eval()


def without_layers(config: Any) -> None:
    """Leave word embeddings of a language model, and no layer that would read them."""
    text = config.get_text_config(decoder=True)
    for name in ("layer_types", "mlp_layer_types", "no_rope_layers"):
        if getattr(text, name, None) is not None:
            setattr(text, name, [])
    text.num_hidden_layers = 0


def built(build: Callable[[], nn.Module]) -> nn.Module:
    """A module without memory for its weights."""
    import torch

    with torch.device("meta"):
        return build()


def weights_of(module: nn.Module) -> int:
    """How many it has."""
    return sum(each.numel() for each in module.parameters())


def check_size(folder: Path, build: Callable[[], nn.Module], stored: int) -> None:
    """Raise ModelError for a configuration of far more weights than are stored.

    They would all be made before one is found missing: where a section of a `config.json` is
    gone, a stock class takes its place for that of a model of billions.
    """
    described = weights_of(built(build))
    if described > MOST_DESCRIBED * stored:
        raise ModelError(
            f"{folder}: config.json describes {described:,} weights, its files hold {stored:,}"
        )


def check_complete(folder: Path, report: dict[str, Any]) -> None:
    """Raise ModelError where weights are missing or of another shape than the configuration's."""
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{folder}: {len(missing)} weights missing, as {missing[0]}")
    if wrong := sorted(report["mismatched_keys"]):
        name, stored, expected = wrong[0]
        raise ModelError(f"{folder}: {name} is {list(stored)}, config.json says {list(expected)}")


def quantisation(unquantised: Sequence[str], placement: Placement) -> dict[str, Any]:
    """What `from_pretrained` is told of a placement, the modules `unquantised` left in 16 bits."""
    from transformers import BitsAndBytesConfig

    if placement.quantize == "none":
        return {}
    _import_bitsandbytes()
    config = BitsAndBytesConfig(
        load_in_8bit=placement.quantize == "int8",
        load_in_4bit=placement.quantize == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=placement.dtype,
        llm_int8_skip_modules=list(unquantised),
    )
    return {"quantization_config": config, "device_map": {"": placement.device}}


def _import_bitsandbytes() -> None:
    """Quietly, and without the compiled code that it would fetch for a CPU by package `kernels`."""
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if "bitsandbytes" in sys.modules:
        return
    installed = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]  # imports of it fail
    try:
        import bitsandbytes  # noqa: F401
    finally:
        del sys.modules["kernels"]
        if installed is not None:
            sys.modules["kernels"] = installed


def stored_parameters(model: Any) -> int:
    """All that a checkpoint of the model holds, such as the statistics of its batch norms."""
    stored = model.state_dict()
    buffers = [each for name, each in model.named_buffers() if name in stored]
    return sum(each.numel() for each in (*model.parameters(), *buffers))


def check_decoder(source: str, decoder: Decoder, layers: Any) -> None:
    """Raise ModelError unless the decoder's layers hold the weights that `costs.py` counts."""
    from torch import nn

    modules = [each for each in layers.modules() if not isinstance(each, nn.Embedding)]
    weights = [each for module in modules for each in module.parameters(recurse=False)]
    held = sum(each.numel() for each in weights if each.ndim > 1)
    if held != (counted := costs.held_parameters(decoder) - decoder.weights_beside):
        raise ModelError(
            f"{source}: its decoder's linear layers hold {held:,} weights where attention and a "
            f"gated MLP, or experts, hold {counted:,}: no such decoder can be counted yet"
        )


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end an answer. Raises ModelError where none is named."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        raise ModelError("neither generation_config.json nor the tokenizer names an end token")
    return frozenset(ends if isinstance(ends, list) else [ends])
