"""A tiny Ultravox with random weights, as it is published: its text model is another's.

Names of weights are those of the published `model.safetensors` (`audio_tower.*`,
`multi_modal_projector.*`), as `ultravox_model.py` of github.com/fixie-ai/ultravox makes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_diva import WHISPER, literal_turn, make_tiny_whisper, stock_text
from tiny_models import (
    CHAT_TEMPLATE,
    QUESTION,
    TEXT,
    _save_tokenizer,
    make_tiny_reader,
    save_sharded,
    stored,
)

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.flow import Audio

INNER = 48  # width of the projector


def make_tiny_ultravox(
    folder: Path, text_family: str = "llama", version: str = "0.5", **told: Any
) -> Path:
    """Version 0.5 has an encoder of its own and a norm in the middle; 0.4 has neither."""
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    _save_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}))
    # a head of its own, as one of word embeddings would repeat what was last said
    make_tiny_reader(folder.parent / "text-tiny", text_family, tie_word_embeddings=False)
    config: dict[str, Any] = {
        "model_type": "ultravox",
        "architectures": ["UltravoxModel"],
        "auto_map": {"AutoModel": "ultravox_model.UltravoxModel"},
        "audio_latency_block_size": None,
        "hidden_size": INNER,
        "projector_act": "swiglu",
        "stack_factor": 8,
        "text_model_id": "meta-llama/text-tiny",
        **told,
    }
    torch.manual_seed(2)
    inputs, outputs = 8 * WHISPER["d_model"], TEXT["hidden_size"]
    weights = {
        "ln_pre.weight": torch.rand(inputs) + 0.5,
        "linear_1.weight": torch.randn(INNER, inputs) / inputs**0.5,
        "linear_2.weight": torch.randn(outputs, INNER // 2) / INNER**0.5,
    }
    weights = {f"multi_modal_projector.{name}": each for name, each in weights.items()}
    if version == "0.5":
        config |= {"audio_config": {**WHISPER, "model_type": "whisper"}, "audio_model_id": None}
        config["projector_ln_mid"] = True
        weights["multi_modal_projector.ln_mid.weight"] = torch.rand(INNER // 2) + 0.5
        encoder = WhisperEncoder(WhisperConfig(**WHISPER))
        weights |= {f"audio_tower.{name}": each for name, each in encoder.state_dict().items()}
    else:
        config["audio_model_id"] = "openai/whisper-tiny"
        weights["multi_modal_projector.ln_post.weight"] = torch.rand(outputs) + 0.5
        make_tiny_whisper(folder.parent / "whisper-tiny")
    (folder / "config.json").write_text(json.dumps(config))
    save_sharded(folder, weights)
    return folder


PROCESSOR = """\
import torch
from transformers import AutoTokenizer, BatchFeature, ProcessorMixin, WhisperFeatureExtractor


class UltravoxProcessor(ProcessorMixin):
    def __init__(self, audio_processor, tokenizer):
        self.audio_processor, self.tokenizer, self.chat_template = audio_processor, tokenizer, None

    @classmethod
    def from_pretrained(cls, folder, **told):
        return cls(WhisperFeatureExtractor(feature_size=80), AutoTokenizer.from_pretrained(folder))

    def __call__(self, text=None, audios=(), **told):
        # one window of silence for each recording, in place of what is heard
        count = len(audios)
        heard = {"audio_values": torch.zeros(count, 80, 3000)}
        heard["audio_lens"] = torch.full((count,), 3000)
        heard["audio_token_len"] = torch.full((count,), 188)
        heard["audio_num_chunks"] = torch.ones(count, dtype=int)
        words = {} if text is None else {"input_ids": [self.tokenizer(text).input_ids]}
        return BatchFeature(heard | words, tensor_type="pt")
"""


def make_servable(folder: Path) -> None:
    """Add what vLLM wants beside a model: its processor, and where the text model really is.

    The published processor is code in the model's repository; this one hears nothing.
    """
    text = folder.parent / "text-tiny"
    config = json.loads((folder / "config.json").read_text())
    config["text_model_id"] = str(text)
    config["vocab_size"] = json.loads((text / "config.json").read_text())["vocab_size"]
    config["audio_token_index"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "ultravox_processing.py").write_text(PROCESSOR)
    kind = {"AutoProcessor": "ultravox_processing.UltravoxProcessor"}
    told = {"processor_class": "UltravoxProcessor", "auto_map": kind}
    (folder / "processor_config.json").write_text(json.dumps(told))


def text_model(lm: Any) -> Any:
    """Stock."""
    return stock_text(lm.checkpoint.folder.parent / "text-tiny", lm.dtype)


def literal_inputs(lm: Any, audio: Audio) -> dict[str, Any]:
    """A user's turn: the recording, and the question on the next line."""
    said = "<|im_start|>user\n", f"\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    parts = _parts(lm.checkpoint.folder, lm.dtype)
    heard = [literal(*parts, *window) for window in cut(audio.samples)]
    return literal_turn(lm, text_model(lm), said, heard)


def cut(samples: Any) -> Iterator[tuple[Tensor, int]]:
    """As the processor does: mel frames of the whole, in pieces of 3000, the last filled up."""
    import numpy as np
    from torch.nn.functional import pad
    from transformers import WhisperFeatureExtractor

    inputs = WhisperFeatureExtractor(feature_size=80)(
        np.pad(samples, (0, max(0, 320 - len(samples)))),
        sampling_rate=16_000,
        padding="longest",
        pad_to_multiple_of=160,
        truncation=False,
        return_attention_mask=True,
        return_tensors="pt",
    )
    length = int(inputs.attention_mask.sum())
    for at in range(0, length, 3000):
        piece = inputs.input_features[:, :, at : at + 3000]
        missing = 3000 - piece.shape[-1] if at else 0
        yield pad(piece, (0, missing)), min(length - at, 3000)


@cache
def _parts(folder: Path, dtype: Any) -> tuple[Any, dict[str, Any]]:
    """The encoder, whoever's it is, and the projector's weights."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    whisper = {
        name.replace("model.encoder.", "audio_tower."): each
        for name, each in stored(folder.parent / "whisper-tiny").items()
    }
    held = {name: each.to(dtype) for name, each in (whisper | stored(folder)).items()}
    parts = [
        {name.split(".", 1)[1]: each for name, each in held.items() if name.startswith(part)}
        for part in ("audio_tower.", "multi_modal_projector.")
    ]
    tower = WhisperEncoder(WhisperConfig(**WHISPER)).eval().to(dtype)
    tower.load_state_dict(parts[0], strict=True)
    return tower, parts[1]


def literal(tower: Any, own: dict[str, Any], frames: Tensor, length: int) -> Tensor:
    """Tokens `[N, D]` of a window's frames, `length` of them the recording's."""
    import torch
    import torch.nn.functional as F

    def norm(hidden: Tensor, name: str) -> Tensor:
        exact = hidden.float()
        scaled = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + 1e-6)
        return own[f"{name}.weight"] * scaled.to(hidden.dtype)

    with torch.no_grad():
        frames = frames.to(own["linear_1.weight"].dtype)
        hidden = F.gelu(tower.conv2(F.gelu(tower.conv1(frames)))).permute(0, 2, 1)
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        heard = torch.arange(hidden.shape[1]) < (length - 1) // 2 + 1
        mask = torch.zeros_like(heard, dtype=hidden.dtype)
        mask = mask.masked_fill(~heard, torch.finfo(hidden.dtype).min)[None, None, None]
        for layer in tower.layers:
            hidden = layer(hidden, mask)
        hidden = tower.layer_norm(hidden)
        hidden = F.pad(hidden, (0, 0, 0, -hidden.shape[1] % 8)).reshape(1, -1, 8 * 32)
        hidden = F.linear(norm(hidden, "ln_pre"), own["linear_1.weight"])
        hidden = F.silu(hidden[..., INNER // 2 :]) * hidden[..., : INNER // 2]
        if "ln_mid.weight" in own:
            hidden = F.linear(norm(hidden, "ln_mid"), own["linear_2.weight"])
        else:
            hidden = norm(F.linear(hidden, own["linear_2.weight"]), "ln_post")
        return hidden[0, : math.ceil(length / 16)]
