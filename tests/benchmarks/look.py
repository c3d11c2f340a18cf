"""Whether a reader's own layers find the passage better than `cue` does.

    python tests/benchmarks/look.py WORK/spiral/report.jsonl [-m mini-small] [--accuracy]

Every record is read whole with the question behind it, and whole sentences are kept by what a layer
says of them: the attention that the question's tokens pay to the sentence's best token, or hidden
states, which `cue`'s own cues take in place of word embeddings. Prints the mean share of the key
sentence that is kept, by question alone and with the options, beside `cue`'s, and how much of the
whole prefill has been computed by then. `--accuracy` also answers by letter from what `cue` and the
attention of `--layer` keep, the options in one order per record.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from speechprune_cli import load
from speechprune_cli.backends._reader import LlamaReader
from speechprune_cli.backends.transcript import INSTRUCTION
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.bench.verdict import recall
from speechprune_cli.flow import AudioTokens, PruningTask, Selection
from speechprune_cli.methods import FULL
from speechprune_cli.pipeline import Session
from speechprune_cli.pruners._passages import keep_sentences
from speechprune_cli.pruners.base import WITH_CHOICES
from speechprune_cli.pruners.cue import Cue, Cues

SHARES = (0.1, 0.2)
LETTERS = "ABCD"
CUE = ("cue", -1)

Name = tuple[str, int]  # of a score, and the number of its layer; -1 for none
Scores = tuple[Tensor, Tensor]  # [sentences] what each is worth; [N] what each token is
Cells = dict[tuple[Name, str, float], list[float]]  # by score, what is told, and share kept


class Watched(TorchFunctionMode):
    """Notes on the CPU what every layer of a reader sees of a prompt, and how its end attends."""

    def __init__(self, reader: LlamaReader, asking: int) -> None:
        super().__init__()
        names = (f"model.layers.{layer}.self_attn.q_proj.weight" for layer in layers_of(reader))
        self.projections = {id(reader.weights[name]) for name in names}
        self.asking = asking  # tokens at the end of the prompt
        self.states: list[Tensor] = []  # [n, D] of each layer
        self.attention: list[Tensor] = []  # [asking, n]: mean over heads, of each layer

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.linear and id(args[1]) in self.projections:
            self.states.append(args[0][0].float().cpu())
        elif func is F.scaled_dot_product_attention:
            self.attention.append(paid(args[0][0, :, -self.asking :], args[1][0]).cpu())
        return func(*args, **(kwargs or {}))


def paid(query: Tensor, key: Tensor) -> Tensor:
    """Attention `[asking, n]` of the last tokens of n, mean over heads."""
    keys = key.float().repeat_interleave(len(query) // len(key), 0)
    logits = query.float() @ keys.transpose(1, 2) / math.sqrt(query.shape[-1])
    later = torch.ones_like(logits[0]).triu(logits.shape[2] - logits.shape[1] + 1).bool()
    return logits.masked_fill(later, -math.inf).softmax(-1).mean(0)


def layers_of(reader: LlamaReader) -> range:
    """Their numbers."""
    return range(reader.shape.num_hidden_layers)


def look(
    session: Session, sample: Sample, task: PruningTask, choices: tuple[str, ...]
) -> dict[Name, Scores]:
    """By name of a score and number of a layer."""
    tokens = task.tokens
    prompt = session.build_prompt(
        tokens,
        session.select(tokens, sample.question, FULL),
        sample.question,
        choices=choices,
        list_choices=bool(choices),
    )
    ids, model = session.model.prompt_ids(sample.question, choices), session.model
    asking = len(ids.after) - len(model.chat.ids(f"\n\n{INSTRUCTION}\n"))
    watched = Watched(model.reader, asking)
    with torch.no_grad(), watched:
        model.run_decoder(prompt.inputs_embeds, prompt.position_ids, None, model.new_cache())
    audio = slice(len(ids.before), len(ids.before) + len(tokens))
    found = {}
    for layer in layers_of(model.reader):
        attention, states = watched.attention[layer].mean(0).double(), watched.states[layer]
        found["attention", layer] = by_attention(attention[audio], task)
        found["hidden states", layer] = by_states(states[audio], states[-asking:], states, task)
    return found


def by_attention(each: Tensor, task: PruningTask) -> Scores:
    """A sentence is worth what its best token gets of `each` `[N]`, and what its neighbours get."""
    sentences = task.tokens.sentences
    best = torch.zeros(int(sentences[-1]) + 1, dtype=torch.float64)
    best = best.scatter_reduce(0, sentences, each, "amax", include_self=False)
    return Cue().shared(best[:, None])[:, 0], each


def by_states(heard: Tensor, asked: Tensor, states: Tensor, task: PruningTask) -> Scores:
    """As `cue` does it, with a layer's states for the embeddings of words."""
    tokens = replace(task.tokens, embeds=heard)
    seen = replace(task, tokens=tokens, text=asked, vocabulary_mean=states.mean(0))
    cues = Cues.of(seen, tokens.sentences)
    return Cue().shared(cues.weighed(cues.matches)).sum(1), cues.weighed(cues.cosines).sum(1)


def whole(session: Session, tokens: AudioTokens, question: str) -> PruningTask:
    """What a pruner looks at where nothing is dropped yet."""
    model, total = session.model, len(tokens)
    return PruningTask(
        tokens,
        model.embed_text(question),
        question,
        len(model.text_ids(question)),
        model.vocabulary_mean,
        model.first_layer(),
        first=total,
        phase1_budget=total,
        keep=total,
    )


def answered(session: Session, sample: Sample, tokens: AudioTokens, kept: Tensor) -> bool:
    """Whether the reader chooses the right letter from what is kept."""
    selection = Selection(kept, torch.zeros(len(tokens)), "look", "", len(kept), 0.0)
    prompt = session.build_prompt(tokens, selection, sample.question, choices=sample.options)
    chosen = session.respond(prompt, choices=LETTERS[: len(sample.options)]).text
    return sample.options[LETTERS.index(chosen)] == sample.answer


def main() -> None:
    """Measure and print."""
    parser = ArgumentParser(usage=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model", default="mini")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--layer", type=int, default=16)
    options = parser.parse_args()
    session = load(options.model)
    if not isinstance(reader := getattr(session.model, "reader", None), LlamaReader):
        parser.error(f"-m {options.model}: it has no reader whose layers can be watched")
    layers = layers_of(reader)
    if options.accuracy and options.layer not in layers:
        parser.error(f"--layer {options.layer}: {options.model} has layers 0 to {layers[-1]}")
    answering = {CUE, ("attention", options.layer)} if options.accuracy else set()
    recalls: Cells = defaultdict(list)
    right: Cells = defaultdict(list)
    samples = load_task("jsonl", options.data, offline=True).samples
    for number, sample in enumerate(map(turned, range(len(samples)), samples)):
        measure(session, sample, answering, recalls, right)
        print(f"\r{number + 1} records", end="", file=sys.stderr)
    show(recalls, right, len(layers))


def turned(number: int, sample: Sample) -> Sample:
    """With its options in the order that its number gives."""
    turn = number % len(sample.options)
    return replace(sample, options=sample.options[turn:] + sample.options[:turn])


def measure(
    session: Session, sample: Sample, answering: set[Name], recalls: Cells, right: Cells
) -> None:
    """Add what every score keeps of a record, and whether it is answered by those `answering`."""
    tokens = session.encode(sample.audio)
    task = whole(session, tokens, sample.question)
    for told, choices in (("question", ()), ("with options", sample.options)):
        scores = look(session, sample, task, choices)
        for share in SHARES:
            for name, kept in kept_by(session, task, choices, scores, share).items():
                of_key = recall(sample.key_span, tokens.times, kept)
                if of_key is not None:
                    recalls[name, told, share].append(of_key)
                if name in answering:
                    right[name, told, share].append(answered(session, sample, tokens, kept))


def kept_by(
    session: Session,
    task: PruningTask,
    choices: tuple[str, ...],
    scores: Mapping[Name, Scores],
    share: float,
) -> dict[Name, Tensor]:
    """Indices `[k]` of the tokens that `cue` keeps, and of as many by each of the scores."""
    kept = session.prune(
        task.tokens,
        task.asked,
        method="cue",
        keep=f"{share:.0%}",
        choices=choices,
        query=WITH_CHOICES,
    ).kept
    task = replace(task, keep=len(kept))
    by_scores = {name: keep_sentences(task, *each, reason="") for name, each in scores.items()}
    return {CUE: kept, **{name: choice.kept for name, choice in by_scores.items()}}


def show(recalls: Cells, right: Cells, layers: int) -> None:
    """Two Markdown tables."""
    columns = [(told, share) for told in ("question", "with options") for share in SHARES]
    heads = " | ".join(f"{told}, {share:.0%}" for told, share in columns)
    for title, cells in (("key sentence kept", recalls), ("accuracy", right)):
        if not cells:
            continue
        print(f"\n| {title} | computed | {heads} |\n|---|---:{'|---:' * len(columns)}|")
        for name, layer in dict.fromkeys(name for name, _, _ in cells):
            means = [cells[(name, layer), *column] for column in columns]
            row = " | ".join(f"{100 * sum(each) / len(each):.1f}" for each in means)
            done = 0 if layer < 0 else layer + (name == "attention")
            where = name if layer < 0 else f"{name}, layer {layer}"
            print(f"| {where} | {done / layers:.0%} | {row} |")


if __name__ == "__main__":
    main()
