"""A family's model against the stock one of its class, on tiny random weights.

`Parity` is what must be true of every family: each one's test subclasses it. The functions before
it are what `benchmarks/parity_table.py` makes a table with.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from conftest import make_audio
from tiny_families import Tiny
from tiny_models import QUESTION, save_sharded
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from speechprune_cli import costs, load
from speechprune_cli.config import Preset, load_preset
from speechprune_cli.device import place
from speechprune_cli.flow import Audio, Prompt, Selection

LENGTHS = (0.4, 3.0, 29.99, 30.0, 30.01, 71.3, 200.0)
QUICK = {0.4, 3.0, 30.01}
MARKED = [pytest.param(each, marks=[pytest.mark.slow] * (each not in QUICK)) for each in LENGTHS]
POSITIONS = ("repacked", "original")
PRUNED = (3.0, 34.0)  # seconds of recordings of which every third token is kept
Inputs = Mapping[str, Any]


def prompt_of(
    lm: Any, audio: Audio, at_once: int, every: int = 1, position: str = "repacked"
) -> Prompt:
    """Every so many-th token and the question; windows encoded as many at once as `at_once`."""
    tokens = lm.encode(audio, batch_size=at_once)
    kept = torch.arange(0, len(tokens), every)
    selection = Selection(kept, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)
    return lm.build_prompt(tokens, selection, QUESTION, position=position)


@torch.no_grad()
def logits_apart(lm: Any, stock: Any, inputs: Inputs, prompt: Prompt) -> float:
    """How far the logits of the whole prompt are from those that the stock model gives."""
    expected = stock(**inputs).logits
    hidden = lm.run_decoder(prompt.inputs_embeds, prompt.position_ids, None, lm.new_cache())
    ours = lm.head(hidden)
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    return float((ours - expected).abs().max())


@torch.no_grad()
def pruned_apart(lm: Any, stock: Any, read: Inputs, prompt: Prompt, position: str) -> float:
    """How far a pruned prompt's last logits are from the stock decoder's over its own embeddings.

    `read` is what its decoder is given for the tokens of the whole prompt (`Tiny.given`): every
    third of the audio's is left. Raises AssertionError where our embeddings are others.
    """
    places = kept_places(lm, read["inputs_embeds"].shape[1], 3)
    left = {name: each[:, places] for name, each in read.items()}
    assert torch.equal(left["inputs_embeds"], prompt.inputs_embeds)
    told = places if position == "original" else torch.arange(len(places))
    positions = lm.position_ids(told)
    assert torch.equal(prompt.position_ids, positions)
    decoder = stock.get_decoder()
    # without a cache, gaps would be taken for the borders of packed sequences
    cache = DynamicCache(config=decoder.config)
    hidden = decoder(**left, position_ids=positions, cache=cache).last_hidden_state
    return float((lm.prefill(prompt)[1] - lm.head(hidden[0, -1])).abs().max())


def kept_places(lm: Any, length: int, every: int) -> Tensor:
    """Places in a prompt of `length` tokens of what is left with every so many-th of the audio."""
    ids = lm.prompt_ids(QUESTION)
    start, end = len(ids.before), length - len(ids.after)
    return torch.cat(
        [torch.arange(start), torch.arange(start, end, every), torch.arange(end, length)]
    )


def same_answer(lm: Any, prompt: Prompt, stock: list[int], count: int = 20) -> bool:
    """Whether the prompt is answered with the tokens that the stock model gave, and ends so."""
    answer = lm.generate(prompt, max_new_tokens=count)
    ended = stock[-1] in lm.end_tokens
    expected = (ended, len(stock) - ended, lm.text_of(stock).strip())
    return (answer.finished, answer.new_tokens, answer.text) == expected


@torch.no_grad()
def flops_of(run: Callable[[], Any]) -> int:
    """Operations that torch counts; attention as two products, as fused kernels are not counted."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def decoder_is_counted(lm: Any, length: int = 100) -> None:
    """Closed forms equal torch's own counter: reading, what is held of it, and a token written."""
    decoder, cache = lm.shape.decoder, lm.new_cache()

    def read(count: int, start: int, cache: Any = cache) -> None:
        embeds = torch.zeros(1, count, lm.hidden_size)
        positions = lm.position_ids(start + torch.arange(count))
        lm.head(lm.run_decoder(embeds, positions, None, cache)[:, -1])

    read(1, 0, lm.new_cache())  # what is prepared once
    assert flops_of(lambda: read(length, 0)) == costs.prefill_flops(decoder, length)
    assert held_bytes(cache) == costs.kv_cache_bytes(decoder, length, 4)
    assert flops_of(lambda: read(1, length)) == costs.decode_flops(decoder, length, 2)


def held_bytes(cache: Any) -> int:
    """Of keys and values, in a cache of transformers or in our own."""
    if hasattr(cache, "layers"):
        pairs = [(each.keys, each.values) for each in cache.layers if each.keys is not None]
    else:
        pairs = list(zip(cache.keys, cache.values, strict=True))
    return sum(each.nbytes for pair in pairs for each in pair)


def only_the_decoder_is_quantised(lm: Any) -> None:
    """Every linear layer outside the decoder lies under a module that is left alone."""
    modules = dict(lm.model.named_modules())
    for each in lm.unquantised:  # by full names, or by their endings
        assert each in modules or any(name.endswith(f".{each}") for name in modules), each
    decoder = next(name for name, each in modules.items() if each is lm.model.get_decoder())
    for name, module in modules.items():
        if isinstance(module, nn.Linear | nn.Conv1d):
            alone = any(f"{name}.".startswith(f"{each}.") for each in lm.unquantised)
            beside = name.rstrip("0123456789").rstrip(".").rpartition(".")[0]
            own = f"{name}.".startswith(f"{decoder}.layers.") or beside == decoder
            assert alone is not own, name


def preset_is_the_model(name: str, **told: Any) -> None:
    """The stock class, built without memory by what the preset says, has the weights it states.

    `told` are keys of the published configuration that no preset holds.
    """
    from speechprune_cli.backends import lora
    from speechprune_cli.backends.stock import leave_out, stock, stored_parameters

    family, shape, preset = described(name)
    config = family.config_of(shape)
    for key, value in told.items():
        setattr(config, key, value)
    with torch.device("meta"):
        model = leave_out(family.left_out, stock(family.model_class)(config))
        if shape.decoder.adapter_rank:
            lora.add_random(model.get_decoder().layers, shape.decoder)
    assert stored_parameters(model) == preset.parameters


def composed_preset_is_the_model(name: str, **told: Any) -> None:
    """The same of modules of a family's own before a stock text model."""
    from transformers import AutoConfig

    from speechprune_cli.backends.composed import built, reader_shape, weights_of
    from speechprune_cli.backends.stock import COUNTED

    family, shape, preset = described(name)
    text = shape.decoder.model_dump(exclude=COUNTED, exclude_none=True)
    _, weights = reader_shape(name, AutoConfig.for_model(**text, **told))
    sound = built(lambda: family.build(shape.encoder, shape.decoder.hidden_size))
    assert weights_of(sound) + weights == preset.parameters


def described(name: str) -> tuple[Any, Any, Preset]:
    """A preset's family and shape, and the preset itself."""
    from speechprune_cli.backends import FAMILIES
    from speechprune_cli.profiler.architecture import shape_of

    preset = load_preset(name)
    return FAMILIES.part(str(preset.family)), shape_of(preset), preset


class Parity:
    """What must be true of every family, of a fixture `lm`: a model from the folder of `tiny`."""

    tiny: Tiny
    answered: ClassVar[tuple[float, ...]] = (0.4, 3.0, 71.3)

    @pytest.fixture(scope="class")
    @classmethod
    def stock(cls, lm):
        return cls.tiny.stock(lm)

    def prompt(self, lm, audio, **how):
        return prompt_of(lm, audio, self.tiny.at_once, **how)

    @pytest.mark.parametrize("seconds", MARKED)
    def test_with_nothing_pruned_the_logits_are_the_stock_model_s(self, lm, stock, seconds):
        audio = make_audio(seconds)
        inputs, prompt = self.tiny.inputs(lm, audio), self.prompt(lm, audio)
        assert logits_apart(lm, stock, inputs, prompt) == 0.0
        with torch.no_grad():
            last = stock(**inputs).logits[0, -1]
        torch.testing.assert_close(lm.prefill(prompt)[1], last, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("seconds", [0.4, 34.0])
    def test_counts_and_prompt_are_the_processor_s(self, lm, seconds):
        inputs, ids = self.tiny.inputs(lm, make_audio(seconds)), lm.prompt_ids(QUESTION)
        if "input_ids" not in inputs:
            pytest.skip("transformers has no processor of this family")
        told = inputs["input_ids"][0].tolist()
        count = lm.shape.audio_tokens(seconds)
        heard = told[len(ids.before) :][:count]
        assert len(set(heard)) == 1
        assert told == [*ids.before, *heard, *ids.after]

    def test_generate_gives_the_stock_model_s_tokens(self, lm, stock):
        written = set()
        for seconds in self.answered:
            audio = make_audio(seconds)
            told = self.tiny.tokens(lm, stock, self.tiny.inputs(lm, audio))
            assert same_answer(lm, self.prompt(lm, audio), told)
            written |= set(told)
        assert len(written) > 3, "a model that repeats itself would prove nothing"

    @pytest.mark.parametrize("position", POSITIONS)
    @pytest.mark.parametrize("seconds", [3.0, pytest.param(34.0, marks=pytest.mark.slow)])
    def test_a_pruned_prompt_is_the_stock_decoder_s_own(self, lm, stock, seconds, position):
        audio = make_audio(seconds)
        prompt = self.prompt(lm, audio, every=3, position=position)
        read = self.tiny.given(stock, self.tiny.inputs(lm, audio))
        assert pruned_apart(lm, stock, read, prompt, position) == 0.0

    def test_batches_are_as_singles(self, lm):
        audio = make_audio(71.3)
        single, together = (lm.encode(audio, batch_size=size).embeds for size in (1, 4))
        torch.testing.assert_close(single, together, rtol=1e-5, atol=1e-5)
        prompts = [self.prompt(lm, make_audio(seconds), every=4) for seconds in (3, 0.4, 34)]
        alone = [lm.generate(each, max_new_tokens=8).text for each in prompts]
        assert [each.text for each in lm.generate_batch(prompts, max_new_tokens=8)] == alone

    @pytest.mark.slow
    def test_it_runs_in_sixteen_bits(self, lm):
        """As on a GPU."""
        half: Any = load(str(lm.checkpoint.folder), device="cpu", dtype="bfloat16", cache=False)
        half, audio = half.model, make_audio(34.0)
        inputs = {
            name: each.to(half.dtype) if torch.is_floating_point(each) else each
            for name, each in self.tiny.inputs(half, audio).items()
        }
        stock, prompt = self.tiny.stock(half), self.prompt(half, audio)
        assert prompt.inputs_embeds.dtype == torch.bfloat16
        assert logits_apart(half, stock, inputs, prompt) == 0.0

    def test_torch_counts_the_same_decoder(self, lm):
        loaded = load(str(lm.checkpoint.folder), device="cpu", cache=False).model
        for each in (loaded, type(lm).random(lm.preset, lm.shape, place("cpu"))):
            decoder_is_counted(self.countable(each))

    def countable(self, lm):
        """A model all of whose operations torch counts."""
        return lm

    def test_it_is_loaded_as_it_is_published(self, lm, tmp_path):
        """From shards, by the names that the Hub's checkpoint gives its tensors."""
        shutil.copytree(lm.checkpoint.folder.parent, tmp_path / "models")
        folder = tmp_path / "models" / lm.checkpoint.folder.name
        for path in folder.glob("model*.safetensors*"):
            path.unlink()
        save_sharded(folder, self.tiny.published(lm), 3)
        again = load(str(folder), device="cpu", cache=False).model
        for tensors_of in (nn.Module.state_dict, lambda module: dict(module.named_buffers())):
            held, loaded = (tensors_of(self.loaded(each)) for each in (lm, again))
            assert held.keys() == loaded.keys()
            assert all(torch.equal(held[name], loaded[name]) for name in held)
        again.quantize = "nf4"  # its signs come from the checkpoint
        for name in ("q_weight", "k_weight"):
            assert torch.equal(getattr(again.first_layer(), name), getattr(lm.first_layer(), name))

    def loaded(self, lm):
        """The modules that the checkpoint's own tensors are put into."""
        return lm.model

    def test_only_the_decoder_is_quantised(self, lm):
        only_the_decoder_is_quantised(lm)


class ComposedParity(Parity):
    """The same of a model that is put together: `lm.sound` before a text model."""

    parts: ClassVar[set[str]]  # of `lm.sound`

    def loaded(self, lm):
        return lm.sound

    def test_only_the_decoder_is_quantised(self, lm, stock):
        """The text model is loaded by itself; its head stays in 16 bits."""
        assert {name for name, _ in lm.sound.named_children()} == self.parts
        names = [name for name, _ in stock.named_modules()]
        assert "lm_head" in names
        assert not [name for name in names if self.parts & set(name.split("."))]
