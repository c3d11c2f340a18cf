"""The training loop: stages of growing recordings, checkpoints, resumable at any point."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from speechprune_cli.builder.grammar import Fact, draw_fact
from speechprune_cli.errors import UsageError
from speechprune_cli.training.features import Piece
from speechprune_cli.training.learner import Learner, Loss
from speechprune_cli.training.packing import PackedRecording
from speechprune_cli.training.tasks import (
    ask_about,
    ask_words,
    draw_recording,
    transcription,
    written_recording,
)
from speechprune_cli.training.text import normalise

WARMUP = 100
CLIP = 1.0
TRANSCRIPTION_TOKENS = 1000
ALIGNMENT_TOKENS = 4000
LISTENING_TOKENS = 900
READING_TOKENS = 450
LOOKING = 0.3
"""Weight of the loss that tells attention heads where to look."""
PROJECTOR_SCALE = 0.1
"""Of the learning rate: encoder features are long, and audio tokens should not tremble."""
CHECKPOINT_EVERY = 100


@dataclass(frozen=True)
class Stage:
    """Steps of one mixture of tasks; the learning rate falls along a cosine in each stage."""

    name: str
    steps: int
    learning_rate: float
    tasks: tuple[str, ...]
    """Methods of `Trainer`, taken in turn, one a step."""
    pieces: tuple[int, int] = (1, 1)
    """Fewest and most sentences of a recording."""
    rows: int = 1
    """Rows of `LISTENING_TOKENS` or `READING_TOKENS` in a step."""


STAGES = (
    Stage("words", 600, 2e-3, ("align", "copy")),
    Stage("sentences", 1200, 2e-3, ("copy", "transcribe")),
    Stage("reading", 3000, 4e-4, ("read", "read", "read", "align"), (1, 14), rows=2),
    Stage("short", 800, 4e-4, ("listen", "transcribe", "listen", "read"), (1, 3)),
    Stage("medium", 1200, 3e-4, ("listen", "read", "listen", "transcribe", "listen"), (1, 12)),
    Stage("long", 2400, 4e-4, ("listen", "read", "read"), (3, 28)),
)


class Trainer:
    """Holds the pieces of speech and takes steps."""

    def __init__(
        self, learner: Learner, stated: Sequence[Piece], open_speech: Sequence[Piece]
    ) -> None:
        self.learner, self.stated, self.open_speech = learner, stated, open_speech
        self.sentences = [piece.text for piece in open_speech]
        self.rng = Random(0)
        self.seen: dict[str, list[float]] = defaultdict(lambda: [0.0] * 6)

    def step(self, stage: Stage, number: int) -> None:
        """Compute the gradients of step `number`."""
        task = getattr(self, stage.tasks[number % len(stage.tasks)])
        for _ in range(stage.rows):
            with torch.autocast(self.learner.device.type, torch.bfloat16):
                loss = task(stage) / stage.rows
            loss.backward()

    def align(self, stage: Stage) -> Tensor:
        """Words at audio tokens, no decoder involved."""
        alignment = self._aligned(self._alike(ALIGNMENT_TOKENS))[1]
        self._note("align", alignment=alignment)
        return alignment

    def copy(self, stage: Stage) -> Tensor:
        """Write down, or complete, a sentence that is given as words instead of as sound."""
        rng = self.rng
        texts = [normalise(draw_fact(rng).statement) for _ in range(16)]
        texts += [text for text in rng.choices(self.sentences, k=40) if len(text.split()) <= 14][
            :16
        ]
        asked = [
            (rng.random() < 0.15 and ask_words(text, rng)) or transcription(text, rng)
            for text in texts
        ]
        loss = self.learner.batch_loss([self._as_speech(text)[0] for text in texts], asked)
        self._note("copy", loss)
        return loss.value

    def transcribe(self, stage: Stage) -> Tensor:
        """Write down single spoken sentences."""
        batch = self._alike(TRANSCRIPTION_TOKENS)
        heard, alignment = self._aligned(batch)
        loss = self.learner.batch_loss(heard, [transcription(p.text, self.rng) for p in batch])
        self._note("transcribe", loss, alignment)
        return loss.value + 0.5 * alignment

    def read(self, stage: Stage) -> Tensor:
        """Answer questions about recordings given as words: a tenth of the cost of hearing them."""
        recordings: list[PackedRecording] = []
        while sum(map(len, recordings)) < READING_TOKENS:
            count = self.rng.randint(*stage.pieces)
            texts, asked = written_recording(count, self.sentences, self.rng)
            heard, said = zip(*map(self._as_speech, texts), strict=True)
            recordings.append(PackedRecording(heard, said, asked))
        loss = self.learner.answer_loss(recordings)
        self._note("read", loss)
        return loss.value + LOOKING * loss.looking

    def listen(self, stage: Stage) -> Tensor:
        """Answer questions about spoken recordings, several short ones or one long."""
        recordings: list[PackedRecording] = []
        alignments = []
        while sum(map(len, recordings)) < LISTENING_TOKENS:
            count = self.rng.randint(*stage.pieces)
            pieces = draw_recording(self.stated, self.open_speech, count, self.rng)
            heard, alignment = self._aligned(pieces)
            said = [piece.labels.long() for piece in pieces if piece.labels is not None]
            facts = [Fact(**piece.fact) for piece in pieces if piece.fact]
            asked = ask_about(facts, [piece.text for piece in pieces], self.rng)
            recordings.append(PackedRecording(heard, said, asked))
            alignments.append(alignment)
        loss = self.learner.answer_loss(recordings)
        alignment = torch.stack(alignments).mean()
        self._note("listen", loss, alignment)
        return loss.value + LOOKING * loss.looking + 0.3 * alignment

    def _alike(self, tokens: int) -> list[Piece]:
        """Sentences of about one length, `tokens` audio tokens in all."""
        pool = self.stated if self.rng.random() < 0.7 else self.open_speech
        first = self.rng.choice(pool)
        length = len(first.features)
        alike = [p for p in self.rng.choices(pool, k=600) if abs(len(p.features) - length) < 12]
        return [first, *alike][: max(1, tokens // (length + 25))]

    def _aligned(self, pieces: Sequence[Piece]) -> tuple[list[Tensor], Tensor]:
        """Audio tokens of each piece `[N_i, D]`, and their alignment loss."""
        features = torch.cat([piece.features.float() for piece in pieces]).to(self.learner.device)
        audio = self.learner.projector(features)
        labels = torch.cat([p.labels for p in pieces if p.labels is not None]).long()
        heard = audio.split([len(piece.features) for piece in pieces])
        return list(heard), self.learner.alignment_loss(audio, labels)

    def _as_speech(self, text: str) -> tuple[Tensor, Tensor]:
        """Embeddings of a text, often as uneven and noisy as speech, and the token each is of."""
        ids = self.learner.ids(text)
        if self.rng.random() < 0.4:
            return self.learner.embed(ids), torch.tensor(ids)
        ids = [token for token in ids for _ in range(self.rng.choice((1, 2, 3, 4)))]
        embeds = self.learner.embed(ids)
        return embeds + 0.02 * torch.randn_like(embeds), torch.tensor(ids)

    def _note(self, task: str, loss: Loss | None = None, alignment: Tensor | None = None) -> None:
        row = self.seen[task]
        answered = (loss.value.item(), loss.right, loss.asked, loss.looking.item()) if loss else ()
        aligned = 0.0 if alignment is None else alignment.item()
        for column, value in enumerate((1, aligned, *answered)):
            row[column] += value

    def report(self) -> dict[str, dict[str, float]]:
        """Means since the last report: losses, and the share of right answers."""
        means = {
            task: {
                "loss": loss / n,
                "exact": right / max(1, asked),
                "looking": looking / n,
                "align": aligned / n,
            }
            for task, (n, aligned, loss, right, asked, looking) in self.seen.items()
        }
        self.seen.clear()
        return means


def train(
    trainer: Trainer, folder: Path, stages: Sequence[Stage] = STAGES, until: float = math.inf
) -> bool:
    """Run what is left of the stages; stop early at `until` (time.monotonic). True when complete.

    `folder/checkpoint.pt` holds everything needed to go on, `folder/log.jsonl` the losses. Random
    draws depend on stage and step alone, but for the noise on written sentences. Raises UsageError
    where the checkpoint is of a stage that `stages` leaves out.
    """
    learner, start, begun = trainer.learner, 0, 0
    checkpoint = folder / "checkpoint.pt"
    optimizers = make_optimizers(learner)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        learner.load_state_dict(state["learner"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        names = [stage.name for stage in stages]
        if state["stage"] not in names:
            raise UsageError(f"{checkpoint} is of a stage that is left out: {state['stage']}")
        begun, start = names.index(state["stage"]), state["step"]
    for stage in stages[begun:]:
        for step in range(start, stage.steps):
            trainer.rng.seed(f"{stage.name}/{step}")
            take_step(trainer, optimizers, stage, step)
            late = time.monotonic() > until
            if late or (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == stage.steps:
                _log(folder, stage, step + 1, trainer)
                save_checkpoint(checkpoint, learner, optimizers, stage.name, step + 1)
            if late:
                return False
        start = 0
    return True


def make_optimizers(learner: Learner) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the decoder's matrices, AdamW for the rest; learning rates of one scale."""
    matrices = [p for p in learner.lm.model.layers.parameters() if p.ndim == 2]
    known = {id(parameter) for parameter in matrices}
    others = [p for p in learner.lm.parameters() if id(p) not in known]
    groups: list[dict[str, Any]] = [
        {"params": learner.projector.parameters(), "scale": PROJECTOR_SCALE},
        {"params": [*others, learner.cosine_scale]},
    ]
    return (
        torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.02),
    )


def take_step(
    trainer: Trainer, optimizers: Sequence[torch.optim.Optimizer], stage: Stage, step: int
) -> None:
    """Gradients, clipped, and one step of all optimizers at the stage's learning rate."""
    for optimizer in optimizers:
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = group.get("scale", 1.0) * learning_rate(stage, step)
    trainer.step(stage, step)
    torch.nn.utils.clip_grad_norm_(trainer.learner.parameters(), CLIP)
    for optimizer in optimizers:
        optimizer.step()


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    return stage.learning_rate * min(1, (step + 1) / WARMUP) * (0.1 + 0.9 * cosine)


def save_checkpoint(
    path: Path,
    learner: Learner,
    optimizers: Sequence[torch.optim.Optimizer],
    stage: str,
    step: int,
) -> None:
    """Replace the checkpoint in one step, so that a kill leaves the old or the new one."""
    state = {
        "learner": learner.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "stage": stage,
        "step": step,
    }
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)


def _log(folder: Path, stage: Stage, step: int, trainer: Trainer) -> None:
    row = {"stage": stage.name, "step": step, "time": time.time(), **trainer.report()}
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")
