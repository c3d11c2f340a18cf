"""Whether a reader's own layers find the passage better than `cue` does.

    python tests/benchmarks/look.py WORK/spiral/report.jsonl [-m mini-small] [--accuracy]

Every record is read whole with the question behind it, and whole sentences are kept by what a layer
says of them: the attention that the question's tokens pay to the sentence's best token, or the
cosines of hidden states, standardised and weighed as `cue` weighs those of word embeddings. Prints
the mean share of the key sentence that is kept, by question alone and with the options, beside
`cue`'s, and how much of the whole prefill has been computed by then. `--accuracy` also answers by
letter from what `cue` and the attention of `--layer` keep, the options in one order per record.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechprune_cli import load
from speechprune_cli.backends._llama import KVCache, LlamaDecoder, _turned
from speechprune_cli.backends.transcript import INSTRUCTION
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.bench.verdict import recall
from speechprune_cli.flow import AudioTokens, Selection
from speechprune_cli.methods import FULL
from speechprune_cli.pipeline import Session
from speechprune_cli.pruners._passages import keep_whole
from speechprune_cli.pruners.cue import Cue, Cues

SHARES = (0.1, 0.2)
LETTERS = "ABCD"

Name = tuple[str, int]  # of a score, and the number of its layer; -1 for none
Cells = dict[tuple[Name, str, float], list[float]]  # by score, what is told, and share kept


class Watched(LlamaDecoder):
    """Notes what every layer sees of a prompt: hidden states and attention of its end."""

    def __init__(self, decoder: LlamaDecoder) -> None:
        self.__dict__ = {**decoder.__dict__}
        self.states: list[Tensor] = []  # [n, D] of each layer
        self.attention: list[Tensor] = []  # [asking, n]: mean over heads, of each layer
        self.asking = 0  # tokens at the end of the prompt

    def _attend(
        self, hidden: Tensor, name: str, layer: int, turns: Any, allowed: Any, cache: KVCache
    ) -> Tensor:
        found = super()._attend(hidden, name, layer, turns, allowed, cache)
        query = self._linear(hidden, f"{name}.q_proj").unflatten(-1, (-1, self.head_dim))
        asking = _turned(query.transpose(1, 2), turns)[0, :, -self.asking :].float()
        keys = cache.keys[layer][0].float().repeat_interleave(self.groups, 0)
        logits = asking @ keys.transpose(1, 2) / math.sqrt(self.head_dim)
        later = torch.ones(logits.shape[1:]).triu(logits.shape[2] - self.asking + 1).bool()
        self.attention.append(logits.masked_fill(later, -math.inf).softmax(-1).mean(0))
        self.states.append(hidden[0].float())
        return found


@dataclass(frozen=True)
class Seen:
    """What a layer says of a recording's tokens."""

    worth: Tensor  # [sentences]
    matches: Tensor  # [N]


def look(
    session: Session, sample: Sample, tokens: AudioTokens, choices: tuple[str, ...]
) -> dict[Name, Seen]:
    """By name of a score and number of a layer."""
    prompt = session.build_prompt(
        tokens,
        session.select(tokens, sample.question, FULL),
        sample.question,
        choices=choices,
        list_choices=bool(choices),
    )
    ids = session.model.prompt_ids(sample.question, choices)
    before, model = len(ids.before), session.model
    watched = Watched(model.reader.decoder)
    watched.asking = len(ids.after) - len(model.chat.ids(f"\n\n{INSTRUCTION}\n"))
    with torch.no_grad():
        watched(prompt.inputs_embeds, prompt.position_ids, None, KVCache())
    audio, sentences = slice(before, before + len(tokens)), numbered(tokens)
    found = {}
    for layer, (states, attention) in enumerate(
        zip(watched.states, watched.attention, strict=True)
    ):
        paid = attention[:, audio].mean(0).double()
        best = torch.zeros(int(sentences[-1]) + 1, dtype=torch.float64)
        best = best.scatter_reduce(0, sentences, paid, "amax", include_self=False)
        found["attention", layer] = Seen(Cue().shared(best[:, None])[:, 0], paid)
        asked = states[-watched.asking :] - states.mean(0)
        heard = states[audio] - states[audio].mean(0)
        found["hidden states", layer] = seen(cosines(heard, asked), sentences)
    return found


def numbered(tokens: AudioTokens) -> Tensor:
    """Number of each token's sentence, none left out."""
    assert tokens.sentences is not None
    return tokens.sentences.unique(return_inverse=True)[1]


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """Of all pairs of rows, float64."""
    from torch.nn.functional import normalize

    return (normalize(left, dim=-1) @ normalize(right, dim=-1).T).double()


def seen(found: Tensor, sentences: Tensor) -> Seen:
    """As `cue` takes cosines `[N, cues]`."""
    matches = torch.zeros(int(sentences[-1]) + 1, found.shape[1], dtype=torch.float64)
    index = sentences[:, None].expand_as(found)
    cues = Cues(found, matches.scatter_reduce(0, index, found, "amax", include_self=False))
    worth = Cue().shared(cues.weighed(cues.matches)).sum(1)
    return Seen(worth, cues.weighed(cues.cosines).sum(1))


def words_alone(session: Session, tokens: AudioTokens, asked: str) -> Seen:
    """What `cue` looks at."""
    model = session.model
    text = model.embed_text(asked).float() - model.vocabulary_mean.float()
    embeds = tokens.embeds.float()
    return seen(cosines(embeds - embeds.mean(0), text), numbered(tokens))


def kept_by(found: Seen, tokens: AudioTokens, share: float) -> Tensor:
    """Indices `[k]` of the tokens kept."""
    keep = max(1, round(share * len(tokens)))
    order = found.worth.argsort(descending=True, stable=True)
    taken = keep_whole(order, numbered(tokens), tokens.word_of, found.matches, keep)
    return taken.nonzero().flatten()


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
    answering = {("cue", -1), ("attention", options.layer)} if options.accuracy else set()
    recalls: Cells = defaultdict(list)
    right: Cells = defaultdict(list)
    samples = load_task("jsonl", options.data, offline=True).samples
    for number, sample in enumerate(map(turned, range(len(samples)), samples)):
        measure(session, sample, answering, recalls, right)
        print(f"\r{number + 1} records", end="", file=sys.stderr)
    show(recalls, right, session.model.shape.decoder.num_hidden_layers)


def turned(number: int, sample: Sample) -> Sample:
    """With its options in the order that its number gives."""
    turn = number % len(sample.options)
    return replace(sample, options=sample.options[turn:] + sample.options[:turn])


def measure(
    session: Session, sample: Sample, answering: set[Name], recalls: Cells, right: Cells
) -> None:
    """Add what every score keeps of a record, and whether it is answered by those `answering`."""
    tokens = session.encode(sample.audio)
    for told, choices in (("question", ()), ("with options", sample.options)):
        scores = look(session, sample, tokens, choices)
        scores["cue", -1] = words_alone(session, tokens, "\n".join([sample.question, *choices]))
        for name, found in scores.items():
            for share in SHARES:
                kept = kept_by(found, tokens, share)
                of_key = recall(sample.key_span, tokens.times, kept)
                if of_key is not None:
                    recalls[name, told, share].append(of_key)
                if name in answering:
                    right[name, told, share].append(answered(session, sample, tokens, kept))


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
