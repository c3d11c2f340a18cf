"""Nano's held-out test: unseen voices, wordings and facts, 200 recordings of 80 to 100 seconds.

Every figure of the model card comes from here. One JSON line per question and condition is written
as it is measured, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from speechprune_cli.flow import SAMPLE_RATE, Audio, AudioTokens
from speechprune_cli.pipeline import Session
from speechprune_cli.spiral.grammar import Fact
from speechprune_cli.spiral.recording import Question, Recording, Sentence, compose
from speechprune_cli.training.features import spoken_pool
from speechprune_cli.training.text import normalise

METHODS = ("speechprune", "phase1", "phase2", "uniform", "random", "crop")
RATES = (0.2, 0.4, 0.6, 0.8)
SILENCE_SECONDS = 100


@dataclass(frozen=True)
class Condition:
    """A way of pruning, or of taking the sound away."""

    method: str
    rate: float | None = None
    silence: bool = False

    @property
    def name(self) -> str:
        """As it stands in the tables."""
        if self.silence:
            return "silence"
        return self.method if self.rate is None else f"{self.method} {self.rate}"


CONDITIONS = (
    Condition("full"),
    Condition("full", silence=True),
    Condition("original"),
    *(Condition(method, rate) for rate in RATES for method in METHODS),
)


def held_out_recordings(pool: Path, count: int = 200) -> Iterator[Recording]:
    """The test recordings, a function of the pool of spoken test sentences alone."""
    sentences = [
        Sentence(s.samples, s.text, s.voice, Fact(**s.fact) if s.fact else None)
        for s in spoken_pool(pool)
    ]
    for number in range(count):
        rng = Random(f"held-out/{number}")
        yield compose(sentences, rng.uniform(80, 96), rng, held_out=True)


def evaluate(
    session: Session, recordings: Iterator[Recording], lines: Path, conditions: Sequence[Condition]
) -> None:
    """Ask every question under every condition not yet in `lines`."""
    done = {(row["recording"], row["condition"]) for row in read_lines(lines)}
    silence = session.encode(_as_audio(np.zeros(SILENCE_SECONDS * SAMPLE_RATE, np.float32)))
    with lines.open("a") as out:
        for number, recording in enumerate(recordings):
            todo = [c for c in conditions if (number, c.name) not in done]
            if not todo:
                continue
            spoken = session.encode(_as_audio(recording.samples))
            for condition in todo:
                tokens = silence if condition.silence else spoken
                for question in recording.questions:
                    row = _measure(session, tokens, question, condition)
                    out.write(json.dumps({"recording": number, **row}) + "\n")
                    out.flush()


def _measure(session: Session, tokens: AudioTokens, question: Question, how: Condition) -> dict:
    selection = session.prune(tokens, question.text, method=how.method, rate=how.rate)
    said = session.answer(tokens, selection, question.text)
    chosen = session.answer(tokens, selection, question.text, choices=question.options)
    return {
        "condition": how.name,
        "kind": question.kind,
        "question": question.text,
        "answer": question.answer,
        "said": said.text,
        "exact": normalise(said.text) == normalise(question.answer),
        "chosen": chosen.text == question.answer,
        "kept": len(selection.kept),
        "enrichment": _enriched(selection.kept, tokens, question),
        "prune_seconds": selection.seconds,
        "prefill_seconds": said.prefill_seconds,
    }


def _enriched(kept: Tensor, tokens: AudioTokens, question: Question) -> float:
    """Share kept of the tokens inside the answering sentence, over the share kept of all."""
    inside = (tokens.times[:, 1] > question.start) & (tokens.times[:, 0] < question.end)
    mask = torch.zeros(len(tokens), dtype=torch.bool)
    mask[kept] = True
    return (mask[inside.cpu()].float().mean() / mask.float().mean()).item()


def scores(embeds: Tensor, text: Tensor, words: Tensor) -> dict[str, Tensor]:
    """Ways `[N]` to score audio tokens `[N, D]` by a question `[L, D]`, the paper's first.

    Centring takes the recording's mean from its tokens and that of all `words` `[V, D]` from the
    question's.
    """
    centred_text = normalize(text - words.mean(0), dim=-1)
    cosine = normalize(embeds, dim=-1) @ normalize(text, dim=-1).T
    centred = normalize(embeds - embeds.mean(0), dim=-1) @ centred_text.T
    return {
        "mean cosine": cosine.mean(1),
        "mean cosine, both sides centred": centred.mean(1),
        "maximum over question tokens": cosine.amax(1),
        "maximum, both sides centred": centred.amax(1),
    }


def enrichment(
    session: Session, recordings: Iterable[Recording], keep: Sequence[int] = (300, 750)
) -> str:
    """Markdown: how much likelier the answering sentence's tokens are to be among the best."""
    gains: dict[tuple[str, int], list[float]] = defaultdict(list)
    words = session.model.model.get_input_embeddings().weight.detach()
    for recording in recordings:
        tokens = session.encode(_as_audio(recording.samples))
        for question in recording.questions:
            text = session.model.embed_text(question.text)
            found = scores(tokens.embeds, text, words)
            for (name, score), k in product(found.items(), keep):
                kept = score.topk(min(k, len(score))).indices
                gains[name, k].append(_enriched(kept, tokens, question))
    lines = [f"| score | {' | '.join(f'best {k}' for k in keep)} |", "|---" * (1 + len(keep)) + "|"]
    for name in dict.fromkeys(name for name, _ in gains):
        lines.append(f"| {name} | {' | '.join(f'{np.mean(gains[name, k]):.2f}' for k in keep)} |")
    return "\n".join(lines)


def read_lines(lines: Path) -> list[dict]:
    """Rows measured so far; a line cut short by a kill is dropped."""
    if not lines.exists():
        return []
    text = lines.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        lines.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def table(rows: Sequence[dict]) -> str:
    """Markdown: exact match and four-option accuracy with Wilson intervals, per condition."""
    groups: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        groups[row["condition"]].append(row)
    lines = [
        "| condition | n | kept | exact match | four options | enrichment |",
        "|---|---|---|---|---|---|",
    ]
    for name, group in groups.items():
        n = len(group)
        exact, chosen = (sum(row[key] for row in group) for key in ("exact", "chosen"))
        kept, gain = (float(np.mean([row[key] for row in group])) for key in ("kept", "enrichment"))
        lines.append(
            f"| {name} | {n} | {kept:.0f} | {wilson(exact, n)} | {wilson(chosen, n)} | {gain:.2f} |"
        )
    return "\n".join(lines)


def wilson(right: int, n: int) -> str:
    """Share in percent with its 95% Wilson interval."""
    z, share = 1.96, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * ((share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5) / (1 + z * z / n)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{100 * share:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def _as_audio(samples: np.ndarray) -> Audio:
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    return Audio(samples, "held-out", digest, SAMPLE_RATE, 1, len(samples) / SAMPLE_RATE)
