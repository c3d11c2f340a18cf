"""Every family with its decoder in 8 and 4 bits, by bitsandbytes' own kernels for the CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from conftest import make_audio
from tiny_families import TINY
from tiny_models import QUESTION

from speechprune_cli import costs, load
from speechprune_cli.costs import BYTES, QUANTISED_BYTES
from speechprune_cli.flow import Selection

pytestmark = pytest.mark.slow
KERNELS = 'def get_kernel(*name, **how): print("fetched", name)'
LOAD = """
import sys
from speechprune_cli import load
load(sys.argv[1], device="cpu", quantize="nf4", cache=False)
"""


@pytest.fixture(scope="module", params=TINY)
def folder(request, tmp_path_factory):
    return TINY[request.param].make(tmp_path_factory.mktemp("quantised") / "model")


def loaded(folder, quantize="none"):
    return load(str(folder), device="cpu", dtype="bfloat16", quantize=quantize, cache=False).model


def text_model(lm):
    """The class of transformers that reads."""
    return lm.model if hasattr(lm, "model") else lm.reader.model


def packed(lm):
    """Names of the quantised layers, and these."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    named = text_model(lm).named_modules()
    return {name: each for name, each in named if isinstance(each, Linear4bit | Linear8bitLt)}


def unpacked(layer):
    """The weights that a quantised layer stands for."""
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    weight = layer.weight
    if weight.dtype == torch.int8:
        return int8_vectorwise_dequant(weight.CB, weight.SCB)
    return dequantize_4bit(weight.data, weight.quant_state)


def prompt(lm):
    """Every third token of a recording, and a question."""
    tokens = lm.encode(make_audio(3.0))
    kept = torch.arange(0, len(tokens), 3)
    selection = Selection(kept, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)
    return lm.build_prompt(tokens, selection, QUESTION)


def put(lm, name, weight):
    """Weights in the place of a layer's own."""
    if hasattr(lm, "reader"):
        lm.reader.weights[f"{name}.weight"].copy_(weight)
        return
    layer = text_model(lm).get_submodule(name)
    getattr(layer, "base_layer", layer).weight.copy_(weight)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_the_decoder_alone_is_packed_and_reads_what_its_weights_say(folder, quantize):
    """Sound, and what signs are taken from, stay as they were."""
    plain, lm = loaded(folder), loaded(folder, quantize)
    layers = packed(lm)
    inside = {id(each) for each in text_model(lm).get_decoder().modules()}
    assert all(id(each) in inside for each in layers.values())
    weights = {name: unpacked(each) for name, each in layers.items()}
    each = QUANTISED_BYTES[quantize] - BYTES[quantize]
    counted = costs.weights_bytes(lm.shape.decoder, 0, quantize) / each
    assert sum(each.numel() for each in weights.values()) == pytest.approx(counted, rel=0.01)
    assert torch.equal(*(each.encode(make_audio(3.0)).embeds for each in (plain, lm)))
    for name in ("q_weight", "k_weight"):
        expected, found = (getattr(each.first_layer(), name).float() for each in (plain, lm))
        torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-7)
    with torch.no_grad():
        for name, weight in weights.items():
            put(plain, name, weight)
    expected, found = (each.prefill(prompt(each))[1].float() for each in (plain, lm))
    assert torch.cosine_similarity(found, expected, dim=-1) > 0.98
    assert lm.generate(prompt(lm), max_new_tokens=4).new_tokens


def test_nothing_is_fetched_that_computes(tmp_path):
    """Of the Hub's compiled kernels, which bitsandbytes asks for on newer CPUs."""
    folder = TINY["qwen2_audio"].make(tmp_path / "model")
    (tmp_path / "kernels.py").write_text(KERNELS)
    command = [sys.executable, "-c", LOAD, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
