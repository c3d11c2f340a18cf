"""A family's prompts, logits and costs, beside what the stock model and torch say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import costs
from speechprune_cli.flow import Audio, Prompt, Selection

QUESTION = "When is the report due?"


def prompt_of(lm: Any, audio: Audio, every: int = 1, position: str = "repacked") -> Prompt:
    """With each `every`-th token of a recording."""
    tokens = lm.encode(audio)
    kept, scores = torch.arange(0, len(tokens), every), torch.zeros(len(tokens))
    selection = Selection(kept, scores, "test", "", len(tokens), 0.0)
    return lm.build_prompt(tokens, selection, QUESTION, position=position)


@torch.inference_mode()
def logits_apart(lm: Any, audio: Audio, inputs: dict[str, Any]) -> float:
    """How far our prompt with everything kept is from the stock forward over its own inputs."""
    stock, prompt = lm.model(**inputs).logits, prompt_of(lm, audio)
    assert torch.equal(lm.position_ids(torch.arange(stock.shape[1])), prompt.position_ids)
    ours = lm.model(inputs_embeds=prompt.inputs_embeds, position_ids=prompt.position_ids).logits
    assert ours.shape == stock.shape
    torch.testing.assert_close(lm.prefill(prompt)[1], stock[0, -1], rtol=1e-5, atol=1e-5)
    return float((ours - stock).abs().max())


@torch.inference_mode()
def same_tokens(lm: Any, audio: Audio, inputs: dict[str, Any]) -> bool:
    """Whether the answer is that of the stock model's greedy `generate`, whose end is ours too."""
    ends = sorted(lm.end_tokens)
    told = lm.model.generate(**inputs, do_sample=False, max_new_tokens=20, eos_token_id=ends)
    stock = told[0, inputs["input_ids"].shape[1] :].tolist()
    answer, ended = lm.generate(prompt_of(lm, audio), max_new_tokens=20), stock[-1] in ends
    assert (answer.finished, answer.new_tokens) == (ended, len(stock) - ended)
    return answer.text == lm.text_of(stock).strip()


@torch.inference_mode()
def pruned_apart(lm: Any, audio: Audio, inputs: dict[str, Any], position: str) -> float:
    """How far a pruned prompt's logits are from the stock decoder's over the stock embeddings."""
    decoder, seen = lm.model.get_decoder(), []
    handle = decoder.register_forward_pre_hook(
        lambda _module, _inputs, named: seen.append(named["inputs_embeds"]), with_kwargs=True
    )
    lm.model(**inputs)
    handle.remove()
    ids = inputs["input_ids"][0]
    sound = (ids == lm.model.config.audio_token_id).nonzero()[:, 0]
    kept = torch.ones(len(ids), dtype=torch.bool)
    kept[sound] = torch.arange(len(sound)) % 3 == 0
    places = kept.nonzero()[:, 0] if position == "original" else torch.arange(int(kept.sum()))
    rows = places.expand(3, 1, -1) if lm.position_rows == 3 else places[None]
    cache = lm.new_cache()  # without one, gaps would be taken for borders of packed sequences
    hidden = decoder(inputs_embeds=seen[0][:, kept], position_ids=rows, cache=cache, use_cache=True)
    stock = lm.model.lm_head(hidden.last_hidden_state[:, -1])[0]
    ours = lm.prefill(prompt_of(lm, audio, every=3, position=position))[1]
    return float((ours - stock).abs().max())


def check_prefill_costs(lm: Any, audio: Audio, model: Any) -> None:
    """FLOPs and bytes of reading a prompt, as torch counts them; `model` attends eagerly."""
    prompt, decoder = prompt_of(lm, audio), lm.shape.decoder
    length = prompt.inputs_embeds.shape[1]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hidden = model.get_decoder()(
            inputs_embeds=prompt.inputs_embeds, position_ids=prompt.position_ids, use_cache=False
        )
        model.lm_head(hidden.last_hidden_state[:, -1])
    assert counter.get_total_flops() == costs.prefill_flops(decoder, length)
    layers = lm.prefill(prompt)[0].layers
    held = sum(each.nbytes for layer in layers for each in (layer.keys, layer.values))
    assert held == costs.kv_cache_bytes(decoder, length, 4)


def thinker_inputs(processor_class: Any, lm: Any, audio: Audio) -> Any:
    """As the stock processor of an Omni model prepares them for its Thinker.

    Its parts that see are left out: those need torchvision.
    """
    processor = object.__new__(processor_class)
    vars(processor).update(tokenizer=lm.tokenizer, feature_extractor=lm.extractor)
    for name in ("image", "audio", "video"):
        setattr(processor, f"{name}_token", getattr(lm.tokenizer, f"{name}_token"))
        setattr(processor, f"{name}_token_id", getattr(lm.tokenizer, f"{name}_token_id"))
    content = [{"type": "audio", "audio": "any"}, {"type": "text", "text": QUESTION}]
    text = lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return processor(text=[text], audio=[audio.samples], return_tensors="pt")


def counted(run: Any, *inputs: Tensor, **named: Tensor) -> int:
    """Operations of a module, as torch counts them."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(*inputs, **named)
    return counter.get_total_flops()
