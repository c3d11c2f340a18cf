"""Low-rank adapters (LoRA) that a checkpoint brings to read audio with, loaded by peft.

Where one lies beside the weights, transformers would load it along with them, and no longer tell
which of the model's own weights are missing: here it comes after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from speechprune_cli.checkpoint import check_weights
from speechprune_cli.errors import ModelError, one_line
from speechprune_cli.extras import need

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.backends.shape import Shape
    from speechprune_cli.config import Decoder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WHAT, EXTRA = "a model with a LoRA adapter", "lora"


@contextmanager
def base_alone(folder: Path) -> Iterator[Path]:
    """The files of a model's folder, an adapter beside them left out."""
    if not (folder / CONFIG).is_file():
        yield folder
        return
    with TemporaryDirectory() as bare:
        try:
            for path in folder.iterdir():
                if path.name != CONFIG:
                    (Path(bare) / path.name).symlink_to(path.resolve())
        except OSError as error:
            raise ModelError(f"cannot link the files of {folder}: {one_line(error)}") from error
        yield Path(bare)


def weight_file(folder: Path) -> Path:
    """Of the adapter in a folder. Raises ModelError where it is missing, pickled or damaged."""
    need("peft", WHAT, EXTRA)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: the adapter's {WEIGHTS} is missing")
    check_weights(folder / WEIGHTS)
    return folder / WEIGHTS


def load(model: Any, folder: Path) -> dict[str, Any]:
    """Give the model its adapter, and tell what was missing. Raises ModelError."""
    try:
        found = model.load_adapter(str(folder), peft_config=read_config(model, folder)).to_dict()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"cannot load the adapter in {folder}: {one_line(error)}") from error
    return {"missing_keys": found["missing_keys"], "mismatched_keys": found["mismatched_keys"]}


def add_empty(model: Any, folder: Path) -> None:
    """The same in shape, no weight read. Raises ModelError, UsageError."""
    weight_file(folder)
    from peft import inject_adapter_in_model

    try:
        inject_adapter_in_model(read_config(model, folder), model)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG}: {one_line(error)}") from error


def read_config(model: Any, folder: Path) -> Any:
    """The adapter's, for those modules of the decoder's layers that its file has weights of.

    Whatever names it gives itself: those of a decoder are often those of an encoder too.
    """
    from peft import PeftConfig
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        found = (re.search(r"layers\.(.*)\.lora_A\.", name) for name in file.keys())  # noqa: SIM118
        inside = sorted(match[1] for match in found if match)
    layers = model.get_decoder().layers
    (at,) = (name for name, module in model.named_modules() if module is layers)
    config = PeftConfig.from_pretrained(str(folder))
    config.target_modules = [f"{at}.{name}" for name in inside]
    return config


def add_random(layers: Any, decoder: Decoder) -> None:
    """One of the decoder's shape to the layers of one with random weights."""
    need("peft", WHAT, EXTRA)
    from peft import LoraConfig, inject_adapter_in_model

    told = LoraConfig(r=decoder.adapter_rank, target_modules=list(decoder.adapter_modules))
    inject_adapter_in_model(told, layers)


def with_adapter(shape: Shape, layers: Any) -> Shape:
    """`shape` with the adapter that its decoder's layers have. Raises ModelError for odd ones."""
    thin = {
        name.split(".lora_A.")[0]: module.out_features
        for name, module in layers.named_modules()
        if ".lora_A." in name
    }
    ranks, names = sorted(set(thin.values())), sorted({each.rsplit(".", 1)[-1] for each in thin})
    if not thin:
        return shape
    if len(ranks) > 1 or len(thin) != len(names) * shape.decoder.num_hidden_layers:
        raise ModelError(f"{shape.name}: its adapter differs from layer to layer: not supported")
    told = {"adapter_rank": ranks[0], "adapter_modules": tuple(names)}
    return replace(shape, decoder=shape.decoder.model_copy(update=told))


def merged(module: Any, weight: Tensor) -> Tensor:
    """The weight of a linear layer with what its adapter adds to it."""
    for name in getattr(module, "active_adapters", ()):
        weight = weight + module.get_delta_weight(name).to(weight)
    return weight
