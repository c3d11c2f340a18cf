"""Low-rank adapters (LoRA) that a checkpoint brings to read audio with, loaded by peft.

Where one lies beside the weights, transformers would load it along with them, and no longer tell
which of the model's own weights are missing: here it comes after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

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
        for path in folder.iterdir():
            if path.name != CONFIG:
                (Path(bare) / path.name).symlink_to(path.resolve())
        yield Path(bare)


def weight_file(folder: Path) -> Path:
    """Of the adapter in a folder. Raises ModelError where it is missing or pickled."""
    need("peft", WHAT, EXTRA)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: the adapter's {WEIGHTS} is missing")
    return folder / WEIGHTS


def load(model: Any, folder: Path) -> dict[str, Any]:
    """Give the model its adapter, and tell what was missing. Raises ModelError."""
    try:
        found = model.load_adapter(str(folder)).to_dict()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"cannot load the adapter in {folder}: {one_line(error)}") from error
    return {"missing_keys": found["missing_keys"], "mismatched_keys": found["mismatched_keys"]}


def add_empty(model: Any, folder: Path) -> None:
    """The same in shape, nothing read but its configuration. Raises ModelError, UsageError."""
    need("peft", WHAT, EXTRA)
    from peft import PeftConfig, inject_adapter_in_model

    try:
        inject_adapter_in_model(PeftConfig.from_pretrained(str(folder)), model)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG}: {one_line(error)}") from error


def add_random(language_model: Any, decoder: Decoder) -> None:
    """One of the decoder's shape to a language model with random weights."""
    need("peft", WHAT, EXTRA)
    from peft import LoraConfig, inject_adapter_in_model

    told = LoraConfig(r=decoder.adapter_rank, target_modules=list(decoder.adapter_modules))
    inject_adapter_in_model(told, language_model)


def with_adapter(shape: Shape, language_model: Any) -> Shape:
    """`shape` with what its language model has of an adapter. Raises ModelError for odd ones."""
    thin = {
        name.split(".lora_A.")[0]: module.out_features
        for name, module in language_model.named_modules()
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
