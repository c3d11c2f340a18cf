"""Our own decoder computes what transformers' classes do."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from speechprune_cli.backends._llama import KVCache, LlamaDecoder, understood

SHAPE = {
    "vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "initializer_range": 0.3,
    "max_position_embeddings": 4096, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
KINDS = {
    "llama": {},
    "smollm2": {"model_type": "llama", "tie_word_embeddings": True, "num_key_value_heads": 4},
    "mistral": {"sliding_window": None, "head_dim": 24},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "long": {"model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """The stock model and ours, from one folder with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    told = {**SHAPE, **KINDS[request.param]}
    config = AutoConfig.for_model(told.pop("model_type", request.param), **told)
    torch.manual_seed(0)
    stock = AutoModelForCausalLM.from_config(config).eval()
    for name, each in stock.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.uniform_(each, 0.5, 1.5)
    folder = tmp_path_factory.mktemp(request.param)
    stock.save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text())
    assert understood(saved)
    return stock, LlamaDecoder(saved, load_file(folder / "model.safetensors"))


def embeds(rows=1, length=37):
    return torch.randn(rows, length, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_hidden_states_are_those_of_the_stock_class(pair):
    stock, ours = pair
    positions = torch.arange(37)[None]
    expected = stock.model(inputs_embeds=embeds(), position_ids=positions).last_hidden_state
    assert torch.equal(ours(embeds(), positions, None, KVCache()), expected)


@torch.no_grad()
def test_gaps_in_the_positions_are_positions(pair):
    stock, ours = pair
    positions = torch.arange(37)[None] * 5 // 2
    expected = stock.model(
        inputs_embeds=embeds(), position_ids=positions, use_cache=True, cache=new_cache(stock)
    ).last_hidden_state
    torch.testing.assert_close(ours(embeds(), positions, None, KVCache()), expected)


@torch.no_grad()
def test_padded_rows_and_reading_on(pair):
    stock, ours = pair
    mask = torch.ones(2, 37, dtype=torch.bool)
    mask[1, :9] = False
    positions = torch.stack([torch.arange(37), (torch.arange(37) - 9).clamp_min(0)])
    theirs, cache = new_cache(stock), KVCache()
    for part in (slice(0, 20), slice(20, 36), slice(36, 37)):
        told = mask[:, : part.stop]
        expected = stock.model(
            inputs_embeds=embeds(2)[:, part],
            position_ids=positions[:, part],
            attention_mask=told.long(),
            use_cache=True,
            cache=theirs,
        ).last_hidden_state
        found = ours(embeds(2)[:, part], positions[:, part], told, cache)
        valid = mask[:, part]
        torch.testing.assert_close(found[valid], expected[valid], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_fork_leaves_the_cache_as_it_was(pair):
    _, ours = pair
    cache = KVCache()
    ours(embeds(), torch.arange(37)[None], None, cache)
    before = [each.clone() for each in cache.keys]
    fork = cache.fork()
    fork.batch_select_indices(torch.tensor([0, 0]))
    ours(embeds(2, 5), torch.arange(37, 42).expand(2, -1), None, fork)
    assert fork.seen == 42
    assert cache.seen == 37
    assert all(map(torch.equal, before, cache.keys))


@pytest.mark.parametrize(
    "other",
    [
        {"model_type": "gemma3_text"},
        {"hidden_act": "gelu"},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_parameters": {"rope_type": "yarn"}},
        {"sliding_window": 4096},
        {"layer_types": ["full_attention", "sliding_attention"]},
    ],
)
def test_what_it_does_not_compute_is_left_to_the_stock_class(other):
    assert understood({"model_type": "mistral", "hidden_act": "silu"})
    assert not understood({"model_type": "mistral", **other})


def new_cache(stock):
    from transformers import DynamicCache

    return DynamicCache(config=stock.config)
