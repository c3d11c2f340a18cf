"""The tiny model of every family that hears, and how the stock one of its class is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tiny_diva
import tiny_flamingo
import tiny_gemma3n
import tiny_gemma4
import tiny_glm_asr
import tiny_granite
import tiny_models
import tiny_phi4
import tiny_qwen2_5_omni
import tiny_qwen3_asr
import tiny_qwen3_omni
import tiny_ultravox
import tiny_voxtral

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio

PUBLISHED = {
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.audio_tower.": "audio_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
"""Parts of the modules' names, and of the tensors' in the checkpoints on the Hub: the other way
round, transformers' conversion table `qwen2_audio`, which several classes share."""


def stock_model(lm: Any) -> Any:
    """Of the family's class, as transformers loads it by itself."""
    import transformers

    kind = getattr(transformers, lm.model_class)
    return kind.from_pretrained(lm.checkpoint.folder, dtype=lm.dtype).eval()


def stock_tokens(lm: Any, stock: Any, inputs: Mapping[str, Any], count: int = 20) -> list[int]:
    """As the stock model's `generate` writes them greedily; an end that is ours ends its own."""
    import torch

    ends = sorted(lm.end_tokens)
    with torch.no_grad():
        told = stock.generate(**inputs, do_sample=False, max_new_tokens=count, eos_token_id=ends)
    asked = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    return told[0, asked:].tolist()


def given_to_the_decoder(stock: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the stock model hands to its decoder for each token, `[1, n, ...]`, by name."""
    import torch

    seen: dict[str, Any] = {}
    hook = stock.get_decoder().register_forward_pre_hook(
        lambda module, _, named: seen.update(named), with_kwargs=True
    )
    with torch.no_grad():
        stock(**inputs)
    hook.remove()
    embeds = seen["inputs_embeds"]
    alike = {
        n: each for n, each in seen.items() if getattr(each, "shape", ())[:2] == embeds.shape[:2]
    }
    return {name: each for name, each in alike.items() if each.is_floating_point()}


@dataclass(frozen=True)
class Tiny:
    """A tiny model with random weights, and the stock one."""

    make: Callable[[Path], Path]
    inputs: Callable[[Any, Audio], Mapping[str, Any]]
    """What the stock model is given to be asked `QUESTION` about a recording."""
    stock: Callable[[Any], Any] = stock_model
    tokens: Callable[..., list[int]] = stock_tokens
    given: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] = given_to_the_decoder
    at_once: int = 16  # windows that the stock model encodes at once, for equality to the bit
    names: Mapping[str, str] | None = None  # published ones, where a saved model has others

    def published(self, lm: Any) -> dict[str, Any]:
        """The tensors of a model by the names that the Hub's checkpoint gives them."""
        if self.names is None:
            return tiny_models.stored(lm.checkpoint.folder)
        return {renamed(name, self.names): each for name, each in lm.model.state_dict().items()}


def renamed(name: str, parts: Mapping[str, str]) -> str:
    """A module's tensor by its published name; `parts` are what names begin with, of both."""
    part = next(each for each in parts if name.startswith(each))
    return parts[part] + name.removeprefix(part)


TINY = {
    "qwen2_audio": Tiny(
        lambda folder: tiny_models.make_tiny_model(folder, "llama"),
        tiny_models.stock_inputs,
        names=PUBLISHED,
    ),
    "voxtral": Tiny(tiny_voxtral.make_tiny_voxtral, tiny_voxtral.stock_inputs, names=PUBLISHED),
    "audio_flamingo3": Tiny(
        tiny_flamingo.make_tiny_flamingo, tiny_flamingo.stock_inputs, names=PUBLISHED
    ),
    "music_flamingo": Tiny(
        lambda folder: tiny_flamingo.make_tiny_flamingo(folder, "MusicFlamingo"),
        tiny_flamingo.stock_inputs,
        names=PUBLISHED,
    ),
    "glm_asr": Tiny(tiny_glm_asr.make_tiny_glm_asr, tiny_glm_asr.stock_inputs, names=PUBLISHED),
    "qwen2_5_omni": Tiny(tiny_qwen2_5_omni.make_tiny_qwen2_5_omni, tiny_qwen2_5_omni.stock_inputs),
    "qwen3_omni": Tiny(tiny_qwen3_omni.make_tiny_qwen3_omni, tiny_qwen3_omni.stock_inputs),
    "qwen3_asr": Tiny(tiny_qwen3_asr.make_tiny_qwen3_asr, tiny_qwen3_asr.stock_inputs),
    "granite_speech": Tiny(
        tiny_granite.make_tiny_granite, tiny_granite.stock_inputs, tokens=tiny_granite.stock_tokens
    ),
    "granite_speech_plus": Tiny(tiny_granite.make_tiny_granite_plus, tiny_granite.stock_inputs),
    "phi4_multimodal": Tiny(
        tiny_phi4.make_tiny_phi4,
        tiny_phi4.stock_inputs,
        stock=tiny_phi4.stock_model,
        tokens=tiny_phi4.stock_tokens,
        given=tiny_phi4.given,
    ),
    "gemma3n": Tiny(tiny_gemma3n.make_tiny_gemma3n, tiny_gemma3n.stock_inputs),
    "gemma4": Tiny(tiny_gemma4.make_tiny_gemma4, tiny_gemma4.stock_inputs),
    "diva": Tiny(
        lambda folder: tiny_diva.make_tiny_diva(folder, queries=448),
        tiny_diva.literal_inputs,
        stock=tiny_diva.text_model,
        at_once=1,
    ),
    "ultravox": Tiny(
        tiny_ultravox.make_tiny_ultravox,
        tiny_ultravox.literal_inputs,
        stock=tiny_ultravox.text_model,
        at_once=1,
    ),
}
