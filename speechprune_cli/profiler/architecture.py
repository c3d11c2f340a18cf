"""The shape of any model, from its preset or its `config.json`; no weights are read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from speechprune_cli.backends import FAMILIES
from speechprune_cli.config import Architecture, Decoder, Preset
Encoder = dict
from speechprune_cli.errors import ModelError, one_line
from speechprune_cli.hub import download
from speechprune_cli.costs import linear_parameters


def described(preset: Preset, revision: str | None = None, offline: bool = False) -> Preset:
    """The preset with its architecture and number of parameters.

    Where it has none, they are read from the folder's or the Hub's `config.json`, and checked
    against the model built on the meta device. Raises ModelError for a file that is missing or no
    configuration, and for a decoder that the formulas of `costs.py` do not describe.
    """
    if preset.architecture is not None:
        return preset
    config = read_config(preset, revision, offline)
    model = on_meta_device(preset, config)
    architecture = Architecture(decoder=_decoder(preset, config), encoder=_encoder(config))
    check_decoder(preset, architecture.decoder, model)
    return preset.model_copy(
        update={
            "architecture": architecture,
            "family": config.model_type if config.model_type in FAMILIES else None,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            **_rate(architecture),
        }
    )


def read_config(preset: Preset, revision: str | None, offline: bool) -> Any:
    """The configuration as transformers reads it, downloaded where it is on the Hub."""
    from transformers import AutoConfig

    folder = Path(preset.source)
    if not folder.is_dir():
        folder = download(
            preset.source,
            ("config.json",),
            kind="model",
            revision=revision or preset.revision,
            offline=offline,
            instead="profile a preset, which needs none",
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no model folder: config.json is missing")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'}: {one_line(error)}") from error


def on_meta_device(preset: Preset, config: Any) -> Any:
    """The model without memory for its weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM, AutoModelForSeq2SeqLM

    for kind in (AutoModelForMultimodalLM, AutoModelForCausalLM, AutoModelForSeq2SeqLM):
        try:
            with suppress(ValueError), torch.device("meta"):  # ValueError: of another kind
                return kind.from_config(config)
        except (ImportError, AttributeError, TypeError) as error:
            raise ModelError(f"{preset.source} cannot be built: {one_line(error)}") from error
    raise ModelError(f"{preset.source} is a '{config.model_type}': not a model that generates text")


def check_decoder(preset: Preset, decoder: Decoder, model: Any) -> None:
    """Raise ModelError unless the decoder's layers hold the weights that `costs.py` counts."""
    from torch import nn

    language_model = model.get_decoder()
    layers = [module for module in language_model.modules() if isinstance(module, nn.Linear)]
    held, counted = sum(layer.weight.numel() for layer in layers), linear_parameters(decoder)
    if held != counted:
        raise ModelError(
            f"{preset.source}: its decoder's linear layers hold {held:,} weights where attention "
            f"and a gated MLP hold {counted:,}: no such decoder can be counted yet"
        )


def _decoder(preset: Preset, config: Any) -> Decoder:
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", None)
    explicit = {
        "head_dim": getattr(text, "head_dim", None) or (heads and text.hidden_size // heads),
        "num_key_value_heads": getattr(text, "num_key_value_heads", None) or heads,
    }
    try:
        return Decoder(**{**_named(text, Decoder), **explicit})
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise ModelError(f"{preset.source}: its decoder has no usable {key} to count by") from error


def _encoder(config: Any) -> Encoder | None:
    """Of a family whose encoder and rate of tokens are known; others' may look the same."""
    if config.model_type not in FAMILIES:
        return None
    return Encoder(**_named(config.audio_config, Encoder))


def _named(config: Any, shape: type[BaseModel]) -> dict[str, Any]:
    return {name: getattr(config, name, None) for name in shape.model_fields}


def _rate(architecture: Architecture) -> dict[str, float]:
    """Qwen2-Audio halves the encoder's positions, which are those of 30 s."""
    if architecture.encoder is None:
        return {}
    return {"tokens_per_second": architecture.encoder.max_source_positions / 2 / 30}
