"""A tiny DiVA with random weights, as it is published: three folders beside each other.

Names of weights are those that the published `modeling_diva.py` reads (`query_tokens`,
`projection.*`, stored transposed, `connector.*`); Whisper's and Llama's are their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import (
    AUDIO,
    QUESTION,
    TEXT,
    _save_random,
    make_tiny_reader,
    save_sharded,
    stored,
)

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


WHISPER = {
    **AUDIO,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 48,
    "vocab_size": 60,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def make_tiny_whisper(folder: Path, **told: Any) -> Path:
    """Save a whole Whisper and its feature extractor."""
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    _save_random(WhisperForConditionalGeneration, WhisperConfig(**{**WHISPER, **told}), folder)
    WhisperFeatureExtractor(feature_size=WHISPER["num_mel_bins"]).save_pretrained(folder)
    return folder


def make_tiny_diva(folder: Path, joined: int = 1, queries: int = 112) -> Path:
    """Save its own weights in `folder`; Whisper's and Llama's are beside it."""
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperDecoder

    folder.mkdir(parents=True)
    make_tiny_whisper(folder.parent / "whisper-tiny", max_target_positions=queries)
    make_tiny_reader(folder.parent / "llama-tiny", "llama")
    config = {
        "model_type": "diva",
        "reference_encoder": "openai/whisper-tiny",
        "reference_decoder": "meta-llama/llama-tiny",
        "architectures": ["DiVAModel"],
        "auto_map": {"AutoModel": "modeling_diva.DiVAModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    width = WHISPER["d_model"]
    connector = WhisperDecoder(WhisperConfig(**{**WHISPER, "max_target_positions": queries}))
    save_sharded(
        folder,
        {
            **{f"connector.{name}": each for name, each in connector.state_dict().items()},
            "query_tokens": torch.randn(queries, width),
            "projection.weight": torch.randn(joined * width, TEXT["hidden_size"]) / width**0.5,
            "projection.bias": torch.randn(TEXT["hidden_size"]),
        },
    )
    return folder


@cache
def stock_text(folder: Path, dtype: Any) -> Any:
    """A text model, stock."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def text_model(lm: Any) -> Any:
    """Llama, stock."""
    return stock_text(lm.checkpoint.folder.parent / "llama-tiny", lm.dtype)


def literal_inputs(lm: Any, audio: Audio) -> dict[str, Any]:
    """A user's turn: every window's tokens in order, a blank line, the question."""
    size = 480_000
    windows = [audio.samples[at : at + size] for at in range(0, len(audio.samples), size)]
    heard = [_literal(lm.checkpoint.folder, lm.dtype)(each) for each in windows]
    said = "<|im_start|>user\n", f"\n\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    return literal_turn(lm, text_model(lm), said, heard)


def literal_turn(lm: Any, text: Any, said: tuple[str, str], heard: list[Any]) -> dict[str, Any]:
    """The embeddings `[1, n, D]` of a prompt around what was heard."""
    import torch

    embed = text.get_input_embeddings()
    with torch.no_grad():
        before, after = (embed(torch.tensor(lm.chat.markup.encode(part).ids)) for part in said)
    return {"inputs_embeds": torch.cat([before, *heard, after])[None]}


@cache
def _literal(folder: Path, dtype: Any) -> Callable[[Any], Any]:
    """Sound `[T]` of 30 s at most -> tokens: stock Whisper, whose decoder reads the queries."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperModel

    whisper = WhisperModel.from_pretrained(folder.parent / "whisper-tiny", dtype=dtype).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(folder.parent / "whisper-tiny")
    held = {name: each.to(dtype) for name, each in stored(folder).items()}
    own = {name: each for name, each in held.items() if name.startswith("connector.")}
    own = {name.removeprefix("connector."): each for name, each in own.items()}
    whisper.decoder.load_state_dict(own, strict=True)
    projection = torch.nn.Linear(*held["projection.weight"].shape)
    projection.weight.data = held["projection.weight"].T.contiguous()
    projection.bias.data = held["projection.bias"]

    @torch.no_grad()
    def tokens(samples: Any) -> Any:
        inputs = extractor(samples, sampling_rate=16_000, return_tensors="pt")
        heard = whisper.encoder(inputs.input_features.to(dtype)).last_hidden_state
        found = whisper.decoder(
            inputs_embeds=held["query_tokens"][None], encoder_hidden_states=heard
        )
        return projection(found.last_hidden_state.reshape(-1, projection.in_features))

    return tokens
