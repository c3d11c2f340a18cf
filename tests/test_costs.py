"""The closed forms: the paper's table I, and what torch and calflops count of the real modules."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.qwen2_audio.modeling_qwen2_audio import (
    Qwen2AudioEncoder,
    Qwen2AudioEncoderConfig,
)

from speechprune_cli import costs
from speechprune_cli.backends.loading import check_decoder
from speechprune_cli.config import list_presets, load_preset
from speechprune_cli.pipeline import load
from speechprune_cli.profiler.architecture import shape_of
from speechprune_cli.pruners import get_pruner

PRESET = load_preset("qwen2-audio")
SHAPE = shape_of(PRESET)
TEXT, AUDIO = SHAPE.decoder, SHAPE.encoder
GROUPED = TEXT.model_copy(update={"model_type": "llama", "num_key_value_heads": 8})
WIDE = GROUPED.model_copy(update={"model_type": "qwen3", "head_dim": 96})
EXPERTS = {"num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 200}
SPARSE = WIDE.model_copy(update={"model_type": "qwen3_moe", "num_hidden_layers": 4, **EXPERTS})


def test_linear_parameters():
    assert costs.linear_parameters(TEXT) == 6_476_005_376
    assert costs.linear_parameters(TEXT) + costs.head_parameters(TEXT) == 7_115_112_448


@pytest.mark.parametrize(
    ("n", "tflops", "memory", "activations", "with_attention"),
    [
        (857, "12.20", "13.40", "0.19", 12.5804),
        (707, "10.06", "13.32", "0.15", 10.3228),
        (557, "7.93", "13.24", "0.11", 8.0889),
        (407, "5.79", "13.17", "0.07", 5.8785),
        (257, "3.66", "13.09", "0.04", 3.6918),
    ],
)
def test_table_i_to_the_last_digit(n, tflops, memory, activations, with_attention):
    assert f"{costs.paper_tflops(TEXT, n):.2f}" == tflops
    assert f"{costs.paper_memory_gb(TEXT, n):.2f}" == memory
    assert f"{costs.paper_activations_gb(TEXT, n):.2f}" == activations
    total = costs.paper_tflops(TEXT, n) + costs.attention_flops(TEXT, n, n) / costs.TERA
    assert total == pytest.approx(with_attention, abs=1e-4)


def on_meta(decoder, kind):
    config = AutoConfig.for_model(**decoder.model_dump())
    config._attn_implementation = "sdpa"
    config._experts_implementation = "batched_mm"  # the one that asks no values, which meta has not
    with torch.device("meta"):
        return kind.from_config(config)


@pytest.mark.parametrize("decoder", [TEXT, GROUPED, WIDE, SPARSE], ids=lambda d: d.model_type)
@pytest.mark.parametrize("n", [257, 2357])
def test_torch_counts_the_same_prefill_on_the_meta_device(decoder, n):
    model = on_meta(decoder, AutoModelForCausalLM)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        model(
            inputs_embeds=torch.empty(1, n, decoder.hidden_size),
            position_ids=torch.arange(n)[None],
            attention_mask=meta_mask(decoder, n),
            logits_to_keep=1,
            use_cache=False,
        )
    assert counter.get_total_flops() == costs.prefill_flops(decoder, n)


def test_memory_counts_every_expert_and_operations_those_that_a_token_is_sent_to():
    check_decoder("a mixture", SPARSE, on_meta(SPARSE, AutoModelForCausalLM).get_decoder().layers)
    each = 3 * SPARSE.hidden_size * SPARSE.moe_intermediate_size * SPARSE.num_hidden_layers
    assert costs.held_parameters(SPARSE) - costs.linear_parameters(SPARSE) == 9 * each
    assert costs.held_parameters(TEXT) == costs.linear_parameters(TEXT)
    more = SPARSE.model_copy(update={"num_experts": 24})
    router = SPARSE.hidden_size * 12 * SPARSE.num_hidden_layers
    assert costs.linear_parameters(more) - costs.linear_parameters(SPARSE) == router
    assert costs.paper_memory_gb(more, 9) > costs.paper_memory_gb(SPARSE, 9)


def test_experts_are_not_packed():
    """bitsandbytes packs linear layers, and experts are none."""
    total = costs.held_parameters(SPARSE)
    packed = 2 * total - costs.weights_bytes(SPARSE, total, "int8")
    assert packed == costs.attention_parameters(SPARSE)


def meta_mask(decoder, n):
    """Without one, transformers looks into the values of `position_ids`, which meta has not."""
    if decoder.model_type in ("llama", "qwen3_moe"):
        return torch.empty(1, 1, n, n, device="meta")
    return {"full_attention": None}


def test_torch_counts_the_same_encoder_on_the_meta_device():
    config = Qwen2AudioEncoderConfig(**AUDIO.model_dump())
    config._attn_implementation = "sdpa"
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        tower = Qwen2AudioEncoder(config)
        frames = torch.empty(2, AUDIO.num_mel_bins, 2 * AUDIO.max_source_positions)
        hidden = tower(frames).last_hidden_state
        torch.nn.Linear(AUDIO.d_model, TEXT.hidden_size)(hidden)
    assert counter.get_total_flops() == AUDIO.flops(60, TEXT.hidden_size)
    assert AUDIO.flops(30, TEXT.hidden_size) / costs.TERA == pytest.approx(2.28, abs=5e-3)


def test_calflops_counts_the_paper_s_convention():
    """It sees no attention inside sdpa, and some element-wise work that nobody else counts."""
    from calflops import calculate_flops

    small = TEXT.model_copy(
        update={"hidden_size": 512, "head_dim": 16, "num_hidden_layers": 2, "vocab_size": 5000}
    )
    config = AutoConfig.for_model(**small.model_dump(), attn_implementation="sdpa")
    n = 857
    ids = {"input_ids": torch.zeros(1, n, dtype=torch.long)}
    flops, _, _ = calculate_flops(
        AutoModelForCausalLM.from_config(config),
        kwargs=ids,
        print_results=False,
        output_as_string=False,
    )
    assert flops / costs.TERA == pytest.approx(costs.paper_tflops(small, n), rel=1e-3)


@pytest.mark.parametrize("n", [10, 300])
def test_decoding_counts_every_step(n):
    steps = sum(
        costs.layers_flops(TEXT, 1) + costs.attention_flops(TEXT, 1, n + i) + costs.head_flops(TEXT)
        for i in range(1, 8)
    )
    assert costs.decode_flops(TEXT, n, 8) == steps
    assert costs.decode_flops(TEXT, n, 1) == 0


def test_what_pruning_costs():
    def share(method, total):
        size = costs.PruningSize(total, 750, 600, 750)
        return get_pruner(method).flops(TEXT, size) / 1e12 / costs.paper_tflops(TEXT, 857)

    assert share("speechprune", 750) == pytest.approx(0.0045, abs=5e-5)
    assert share("phase2", 2250) == pytest.approx(0.016, abs=5e-4)
    assert share("phase1", 2250) < 1e-5
    assert share("uniform", 2250) == 0
    assert get_pruner("atome").flops(TEXT, costs.PruningSize(750, 750, 600, 750)) is None


def test_phase_2_costs_what_torch_counts_of_it(monkeypatch):
    """In float32: torch does not count products of int8, which AVX-512 would bring."""
    from speechprune_cli.flow import FirstLayer
    from speechprune_cli.pruners._attention import attention_received

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    decoder = load_preset("nano").architecture.decoder
    width, n = decoder.num_attention_heads * decoder.head_dim, 90
    weights = torch.randn(2, width, decoder.hidden_size)
    layer = FirstLayer(*weights, decoder.num_attention_heads, decoder.num_key_value_heads)
    with FlopCounterMode(display=False) as counter:
        attention_received(300 * torch.randn(n, decoder.hidden_size), layer, "paper", "mean")
    assert counter.get_total_flops() == costs.received_attention_flops(decoder, n)


def test_memory_of_the_7b_model():
    for n, kv in ((857, 0.45), (2357, 1.24)):
        assert costs.kv_cache_bytes(TEXT, n, 2) / 1e9 == pytest.approx(kv, abs=5e-3)
    assert costs.prefill_bytes(TEXT, 857, 2) > costs.kv_cache_bytes(TEXT, 857, 2)


def test_a_configuration_of_transformers_counts_like_its_preset():
    config = SimpleNamespace(**TEXT.model_dump(exclude={"head_dim"}))
    assert costs.linear_parameters(config) == costs.linear_parameters(TEXT)


@pytest.mark.parametrize("name", list_presets())
def test_presets_state_the_memory_that_is_counted(name):
    preset = load_preset(name)
    for dtype, stated in preset.weights_gb.items():
        decoder = preset.architecture.decoder
        counted = costs.weights_bytes(decoder, preset.parameters, dtype) / costs.GIGA
        assert counted == pytest.approx(stated, abs=6e-3)


def test_nano_s_preset_is_the_shipped_model():
    preset = load_preset("nano")
    shipped = load("nano", offline=True, cache=False).model
    folder = str(shipped.checkpoint.folder)
    found = shape_of(preset.model_copy(update={"source": folder, "architecture": None}))
    assert found == shape_of(preset) == shipped.shape
