"""Teaches the encoder's last layers to say which word is being spoken at every audio token.

Whisper's features hold words for Whisper's own decoder to find; a linear projector gets two in
three of them right. With its last layers trained to name them (cross-entropy of the text token at
every audio token, labels from `align`), audio tokens read like text, in voices never heard too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from speechprune_cli.atomic import atomic
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.training.align import label
from speechprune_cli.training.features import Piece, Sound, pack
from speechprune_cli.training.text import BLANK, VOCABULARY, normalise

FROZEN = 4
"""Layers that stay as Whisper's; the two above them are trained."""
BATCH = 2
LEARNING_RATE = 2e-4
STEPS = 900
WARMUP = 50
MASKS, MASKED = 4, 25
"""So many stretches of up to so many hidden states (20 ms each) are blanked in every window."""
CHECKPOINT_EVERY = 50


@dataclass(frozen=True)
class Window:
    """30 s of speech on their way through the encoder."""

    hidden: Tensor
    """float16 `[1500, width]`, after the frozen layers."""
    labels: Tensor
    """int16 `[750]`: text token said at each audio token."""


def windows(
    sounds: Iterable[Sound],
    tower: Qwen2AudioEncoder,
    letters: nn.Linear,
    tokenizer: Tokenizer,
    rng: Random,
) -> Iterator[Window]:
    """Sounds packed into windows, through the frozen layers, labelled."""
    extractor = WhisperFeatureExtractor()
    for samples, spans in pack(sounds, rng):
        mel = extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            hidden = lower(tower, mel)
            features = upper(tower, hidden)[0].half()
        labels = torch.full((len(features),), BLANK, dtype=torch.int16)
        for start, end, sound in spans:
            piece = Piece(features[start:end], normalise(sound.text), sound.voice, None)
            if len(piece.text.split()) > 1:
                labels[start:end] = label(piece, letters, tokenizer)
        yield Window(hidden[0].half(), labels)


def lower(tower: Qwen2AudioEncoder, mel: Tensor) -> Tensor:
    """Mel features `[B, mels, 3000]` to hidden states `[B, 1500, width]`, frozen layers done."""
    hidden = F.gelu(tower.conv2(F.gelu(tower.conv1(mel)))).transpose(1, 2)
    hidden = hidden + tower.embed_positions.weight
    return _through(tower.layers[:FROZEN], hidden)


def upper(tower: Qwen2AudioEncoder, hidden: Tensor) -> Tensor:
    """The rest of the encoder: audio tokens `[B, 750, width]`."""
    hidden = _through(tower.layers[FROZEN:], hidden)
    return tower.layer_norm(tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2))


def _through(layers: nn.ModuleList, hidden: Tensor) -> Tensor:
    for layer in layers:
        hidden = layer(hidden, None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    return hidden


def save_windows(path: Path, made: Sequence[Window]) -> None:
    """One safetensors file of all windows."""
    partial = path.with_suffix(".part")
    hidden = torch.stack([window.hidden for window in made])
    save_file({"hidden": hidden, "labels": torch.stack([w.labels for w in made])}, partial)
    partial.replace(path)


def load_windows(path: Path) -> list[Window]:
    """What `save_windows` wrote."""
    file = load_file(path)
    return [Window(*both) for both in zip(file["hidden"], file["labels"], strict=True)]


def finetune(
    tower: Qwen2AudioEncoder, made: Sequence[Window], folder: Path, steps: int = STEPS
) -> None:
    """Train the upper layers of `tower` in place; `folder/encoder.pt` holds what resumes it."""
    naming = nn.Linear(tower.config.d_model, VOCABULARY)
    trained = nn.ModuleDict(
        {"layers": tower.layers[FROZEN:], "norm": tower.layer_norm, "naming": naming}
    )
    upper_layers = [*tower.layers[FROZEN:].parameters(), *tower.layer_norm.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": naming.parameters(), "scale": 5.0},
        {"params": upper_layers, "scale": 1.0},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.02, betas=(0.9, 0.98))
    checkpoint, start = folder / "encoder.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        trained.load_state_dict(state["trained"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    tower.train()
    for step in range(start, steps):
        rng = Random(step)
        rate = LEARNING_RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        loss = naming_loss(tower, naming, rng.choices(made, k=BATCH), rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            state = {
                "trained": trained.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            with atomic(checkpoint) as partial:
                torch.save(state, partial)
            print(f"encoder: step {step + 1} of {steps}, loss {loss.item():.2f}", flush=True)
    tower.eval()


def naming_loss(
    tower: Qwen2AudioEncoder, naming: nn.Linear, batch: Sequence[Window], rng: Random
) -> Tensor:
    """Cross-entropy of the text token at every audio token, parts of the sound blanked."""
    hidden = torch.stack([window.hidden for window in batch]).float()
    for row in hidden:
        for _ in range(MASKS):
            begin = rng.randrange(len(row))
            row[begin : begin + rng.randint(1, MASKED)] = 0
    with torch.autocast("cpu", torch.bfloat16):
        logits = naming(upper(tower, hidden))
    labels = torch.stack([window.labels for window in batch]).long()
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), label_smoothing=0.05)
