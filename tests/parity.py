"""What the parity tests of families have in common: prompts, the decoder by hand, shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from conftest import make_audio
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import costs
from speechprune_cli.flow import Prompt, Selection

QUESTION = "When is the report due?"
LENGTHS = (0.4, 3.0, 29.99, 30.0, 30.01, 71.3, 200.0)


def prompt_of(lm: Any, seconds: float, step: int = 1, position: str = "repacked") -> Prompt:
    """Every `step`-th token of a recording, and the question."""
    tokens = lm.encode(make_audio(seconds))
    kept = torch.arange(0, len(tokens), step)
    selection = Selection(kept, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)
    return lm.build_prompt(tokens, selection, QUESTION, position=position)


def expected_ids(lm: Any, seconds: float, audio: int) -> torch.Tensor:
    """Token ids `[1, n]` of the whole prompt, `audio` standing for each token of the recording."""
    ids, count = lm.prompt_ids(QUESTION), lm.shape.audio_tokens(seconds)
    return torch.tensor([[*ids.before, *[audio] * count, *ids.after]])


def kept_places(lm: Any, seconds: float, step: int) -> torch.Tensor:
    """Places in the whole prompt of what is left with every `step`-th audio token."""
    ids, count = lm.prompt_ids(QUESTION), lm.shape.audio_tokens(seconds)
    before, after = len(ids.before), len(ids.after)
    middle = before + torch.arange(0, count, step)
    return torch.cat([torch.arange(before), middle, before + count + torch.arange(after)])


def same_answer(lm: Any, seconds: float, stock: list[int], new_tokens: int) -> None:
    """Assert that the whole prompt is answered with the tokens that the stock model gave."""
    answer = lm.generate(prompt_of(lm, seconds), max_new_tokens=new_tokens)
    ended = stock[-1] in lm.end_tokens
    assert (answer.finished, answer.new_tokens) == (ended, len(stock) - ended)
    assert answer.text == lm.text_of(stock).strip()


def counted(lm: Any, length: int, cache: Any, start: int = 0) -> int:
    """Operations that torch counts while `length` tokens are read, up to the next one's logits."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    embeds = torch.zeros(1, length, lm.hidden_size)
    positions = lm.position_ids(start + torch.arange(length))
    math = sdpa_kernel(SDPBackend.MATH)  # fused kernels on a CPU are not counted
    with torch.no_grad(), math, FlopCounterMode(display=False) as counter:
        lm.head(lm.run_decoder(embeds, positions, None, cache)[:, -1])
    return counter.get_total_flops()


def assert_decoder_is_counted(lm: Any, length: int = 40) -> None:
    """Closed forms equal torch's own counter: reading, what is held of it, and a token written."""
    decoder, cache = lm.shape.decoder, lm.new_cache()
    counted(lm, 1, lm.new_cache())  # what is prepared once
    assert counted(lm, length, cache) == costs.prefill_flops(decoder, length)
    held = [layer for layer in cache.layers if layer.keys is not None]
    size = sum(layer.keys.nbytes + layer.values.nbytes for layer in held)
    assert size == costs.kv_cache_bytes(decoder, length, 4)
    assert counted(lm, 1, cache, start=length) == costs.decode_flops(decoder, length, 2)


def shard(folder: Path, count: int = 3) -> set[str]:
    """Split a folder's weights into files, with an index, and tell the tensors' names."""
    whole = folder / "model.safetensors"
    weights = load_file(whole)
    whole.unlink()
    placed = {name: number % count for number, name in enumerate(weights)}
    files = [f"model-{number + 1:05}-of-{count:05}.safetensors" for number in range(count)]
    for number, file in enumerate(files):
        part = {name: weights[name] for name, at in placed.items() if at == number}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: files[at] for name, at in placed.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return set(weights)
