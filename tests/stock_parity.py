"""A family's model against the stock one of its class, on tiny random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import make_audio
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import costs, load
from speechprune_cli.flow import Audio, Prompt, Selection

QUESTION = "When is the report due?"
LENGTHS = (0.4, 3.0, 29.99, 30.0, 30.01, 71.3, 200.0)
IN_ONE_BATCH = 16  # windows: as many as the stock model encodes at once, for equality to the bit
PUBLISHED = {
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.audio_tower.": "audio_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
"""Parts of the modules' names, and of the tensors' in the checkpoints on the Hub: the other way
round, transformers' conversion table `qwen2_audio`, which these classes share."""


def prompt_of(lm: Any, audio: Audio, every: int = 1, position: str = "repacked") -> Prompt:
    """With every so many-th token kept; all windows encoded at once, as the stock model does."""
    tokens = lm.encode(audio, batch_size=IN_ONE_BATCH)
    kept = torch.arange(0, len(tokens), every)
    selection = Selection(kept, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)
    return lm.build_prompt(tokens, selection, QUESTION, position=position)


@torch.inference_mode()
def same_logits(lm: Any, audio: Audio, inputs: dict[str, Tensor]) -> None:
    """With everything kept, to the bit; `inputs` are the stock processor's."""
    stock = lm.model(**inputs).logits
    prompt = prompt_of(lm, audio)
    ours = lm.model(inputs_embeds=prompt.inputs_embeds, position_ids=prompt.position_ids).logits
    assert ours.shape == stock.shape
    assert (ours - stock).abs().max() == 0.0
    torch.testing.assert_close(lm.prefill(prompt)[1], stock[0, -1], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def same_answer(lm: Any, audio: Audio, inputs: dict[str, Tensor]) -> None:
    """Greedily, as the stock model's `generate` writes it."""
    told = lm.model.generate(**inputs, do_sample=False, max_new_tokens=20)
    stock = told[0, inputs["input_ids"].shape[1] :].tolist()
    answer = lm.generate(prompt_of(lm, audio), max_new_tokens=20)
    ended = stock[-1] in lm.end_tokens
    assert len(set(stock)) > 3, "a model that repeats itself would prove nothing"
    assert (answer.finished, answer.new_tokens) == (ended, len(stock) - ended)
    assert answer.text == lm.text_of(stock).strip()


@torch.inference_mode()
def same_pruned(lm: Any, audio: Audio, inputs: dict[str, Tensor], position: str) -> None:
    """A pruned prompt, by hand: the stock model's own embeddings without those in between."""
    seen: list[Tensor] = []
    watch = lm.model.model.language_model.register_forward_pre_hook(
        lambda module, given, named: seen.append(named["inputs_embeds"]), with_kwargs=True
    )
    lm.model(**inputs)
    watch.remove()
    heard = inputs["input_ids"][0] == lm.model.config.audio_token_id
    places = torch.arange(len(heard))
    kept = ~heard | ((places - int(heard.int().argmax())) % 3 == 0)
    embeds, at = seen[0][:, kept], places[kept]
    positions = (at if position == "original" else torch.arange(len(at)))[None]
    hidden = lm.model.model.language_model(
        inputs_embeds=embeds,
        position_ids=positions,
        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
    ).last_hidden_state
    prompt = prompt_of(lm, audio, 3, position)
    assert torch.equal(prompt.inputs_embeds, embeds)
    assert torch.equal(prompt.position_ids, positions)
    last = lm.model.lm_head(hidden)[0, -1]
    torch.testing.assert_close(lm.prefill(prompt)[1], last, rtol=1e-5, atol=1e-5)


def same_side_by_side(lm: Any) -> None:
    """Windows in batches, and prompts in batches, give what they give one by one."""
    audio = make_audio(71.3)
    single, together = (lm.encode(audio, batch_size=size).embeds for size in (1, 4))
    torch.testing.assert_close(single, together, rtol=1e-5, atol=1e-5)
    prompts = [prompt_of(lm, make_audio(seconds), every=4) for seconds in (3, 0.4, 34)]
    alone = [lm.generate(each, max_new_tokens=8).text for each in prompts]
    assert [each.text for each in lm.generate_batch(prompts, max_new_tokens=8)] == alone


@torch.inference_mode()
def same_in_sixteen_bits(folder: Path, stock_inputs: Callable[[Any, Audio], Any]) -> None:
    """As on a GPU: mel frames come in 32."""
    lm: Any = load(str(folder), device="cpu", dtype="bfloat16", cache=False).model
    audio = make_audio(34)
    inputs = dict(stock_inputs(lm, audio))
    inputs["input_features"] = inputs["input_features"].to(lm.dtype)
    stock, prompt = lm.model(**inputs).logits, prompt_of(lm, audio)
    ours = lm.model(inputs_embeds=prompt.inputs_embeds, position_ids=prompt.position_ids).logits
    assert ours.dtype == torch.bfloat16
    assert (ours - stock).abs().max() == 0.0


def same_flops(lm: Any, encode: Callable[[Any], Any]) -> None:
    """Counted by torch, of attention that it sees, and the KV cache as it is; `encode` 60 s."""
    decoder, n = lm.shape.decoder, 257
    model = type(lm.model)._from_config(lm.model.config, attn_implementation="eager")
    with torch.no_grad(), FlopCounterMode(display=False) as encoding:
        encode(model.eval())
    with torch.no_grad(), FlopCounterMode(display=False) as prefill:
        embeds = torch.zeros(1, n, decoder.hidden_size)
        model(inputs_embeds=embeds, logits_to_keep=1, use_cache=False)
    assert encoding.get_total_flops() == lm.shape.encoder.flops(60, lm.hidden_size)
    assert prefill.get_total_flops() == costs.prefill_flops(decoder, n)
    prompt = prompt_of(lm, make_audio(3))
    layers = lm.prefill(prompt)[0].layers
    held = sum(each.keys.nbytes + each.values.nbytes for each in layers)
    assert held == costs.kv_cache_bytes(decoder, prompt.inputs_embeds.shape[1], 4)


def same_as_published(lm: Any, folder: Path) -> None:
    """Loaded from shards whose tensors have the names that the Hub's checkpoint gives them."""
    from safetensors.torch import save_file

    shutil.copytree(lm.checkpoint.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = {published(name): each for name, each in lm.model.state_dict().items()}
    names = sorted(tensors)
    shards = {f"model-0000{at + 1}-of-00003.safetensors": names[at::3] for at in range(3)}
    for file, held in shards.items():
        whole = {name: tensors[name].clone() for name in held}
        save_file(whole, folder / file, metadata={"format": "pt"})
    places = {name: file for file, held in shards.items() for name in held}
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    again = load(str(folder), device="cpu", cache=False).model
    for tensors_of in (nn.Module.state_dict, lambda model: dict(model.named_buffers())):
        held, loaded = tensors_of(lm.model), tensors_of(again.model)
        assert held.keys() == loaded.keys()
        assert all(torch.equal(held[name], loaded[name]) for name in held)
    read = again.checkpoint.read_tensor(again.decoder_name, "layers.0.self_attn.q_proj.weight")
    assert torch.equal(read, lm.first_layer().q_weight), "what a quantised model reads its own from"


def published(name: str) -> str:
    """What the Hub's checkpoint calls a tensor."""
    part = next(each for each in PUBLISHED if name.startswith(each))
    return PUBLISHED[part] + name.removeprefix(part)


def only_the_decoder_is_quantised(lm: Any) -> None:
    """Every linear layer outside the decoder lies under a module that is left alone."""
    modules = dict(lm.model.named_modules())
    assert set(lm.unquantised) <= set(modules)
    for name, module in modules.items():
        if isinstance(module, nn.Linear | nn.Conv1d):
            alone = any(f"{name}.".startswith(f"{each}.") for each in lm.unquantised)
            assert alone is not name.startswith("model.language_model."), name


def preset_is_the_model(name: str) -> None:
    """The stock class, built without memory by what the preset says, has the weights it states."""
    from speechprune_cli.backends import FAMILIES
    from speechprune_cli.backends.loading import stock
    from speechprune_cli.config import load_preset
    from speechprune_cli.profiler.architecture import shape_of

    preset = load_preset(name)
    family: Any = FAMILIES.part(str(preset.family))
    with torch.device("meta"):
        model = stock(family.model_class)(family.config_of(shape_of(preset)))
    assert sum(each.numel() for each in model.parameters()) == preset.parameters
