"""Which word is being said at each audio token: labels that align speech with text.

A linear classifier of letters, trained with CTC on the frozen features, aligns every transcript
within a minute or two; the letters' places then give each audio token its text token. Labels this
dense teach the projector far faster than CTC through the vocabulary does, and a word stays
recognisable in most of its audio tokens, which is what similarity to a question needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from speechprune_cli.training.features import Piece
from speechprune_cli.training.text import BLANK

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
STATES_PER_TOKEN = 2
"""25 audio tokens a second are slow for letters, so each may hold two."""
BATCH = 48
SPREAD = 4
"""Audio tokens on either side of a word that silence must exceed to be called silence."""


def train_letters(pieces: Sequence[Piece], steps: int = 400, seed: int = 0) -> nn.Linear:
    """CTC over letters on frozen features."""
    torch.manual_seed(seed)
    rng = Random(seed)
    letters = nn.Linear(pieces[0].features.shape[1], len(LETTERS) + 1)
    optimizer = torch.optim.Adam(letters.parameters())
    by_length = sorted(pieces, key=lambda piece: len(piece.features))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / steps) + 1e-4
        first = rng.randrange(max(1, len(by_length) - BATCH))
        batch = by_length[first : first + BATCH]
        features = nn.utils.rnn.pad_sequence([piece.features.float() for piece in batch])
        loss = F.ctc_loss(
            letters(features).log_softmax(-1).repeat_interleave(STATES_PER_TOKEN, 0),
            torch.cat([_letter_ids(piece.text) for piece in batch]),
            torch.tensor([STATES_PER_TOKEN * len(piece.features) for piece in batch]),
            torch.tensor([len(piece.text) for piece in batch]),
            zero_infinity=True,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return letters


@torch.inference_mode()
def label(piece: Piece, letters: nn.Linear, tokenizer: Tokenizer) -> Tensor:
    """Text token id of every audio token, int16 `[T]`, `BLANK` in silence."""
    log_probs = letters(piece.features.float()).log_softmax(-1).numpy()
    path = _viterbi(log_probs.repeat(STATES_PER_TOKEN, 0), _letter_ids(piece.text).numpy())
    owners = _token_of_letter(piece.text, tokenizer)
    labels = np.full(len(piece.features), -1)
    for state, letter in enumerate(path):
        if letter >= 0:
            labels[state // STATES_PER_TOKEN] = owners[letter]
    return torch.from_numpy(_spread(labels)).short()


def _letter_ids(text: str) -> Tensor:
    return torch.tensor([LETTERS.index(letter) + 1 for letter in text])


def _token_of_letter(text: str, tokenizer: Tokenizer) -> list[int]:
    """Id of the text token that each letter belongs to; a space belongs to the word after it."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    owners = [token for token in ids for _ in tokenizer.decode([token])]
    return owners[1:]  # the tokenizer puts a space before the text


def _viterbi(log_probs: np.ndarray, target: np.ndarray) -> list[int]:
    """Best CTC path of `target` `[L]` through `[S, letters]`: a letter's index per state, or -1."""
    labels = np.zeros(2 * len(target) + 1, int)
    labels[1::2] = target
    skippable = np.zeros(len(labels), bool)
    skippable[3::2] = target[1:] != target[:-1]
    score = np.full(len(labels), -np.inf)
    score[:2] = log_probs[0, labels[:2]]
    back = np.zeros((len(log_probs), len(labels)), np.int8)
    for state in range(1, len(log_probs)):
        stay, step, skip = score, np.roll(score, 1), np.where(skippable, np.roll(score, 2), -np.inf)
        step[0] = -np.inf
        choices = np.stack([stay, step, skip])
        back[state] = choices.argmax(0)
        score = choices.max(0) + log_probs[state, labels]
    place = len(labels) - 1 - int(score[-2] > score[-1])
    path = []
    for moves in back[::-1]:
        path.append(place // 2 if place % 2 else -1)
        place -= int(moves[place])
    return path[::-1]


def _spread(labels: np.ndarray) -> np.ndarray:
    """Give unlabelled audio tokens (-1) to the nearest word, but for those deep in silence."""
    said = np.flatnonzero(labels >= 0)
    if not len(said):
        return np.full(len(labels), BLANK)
    places = np.arange(len(labels))
    after = said[np.searchsorted(said, places).clip(max=len(said) - 1)]
    before = said[(np.searchsorted(said, places, side="right") - 1).clip(min=0)]
    nearest = np.where(abs(places - before) <= abs(after - places), before, after)
    return np.where(abs(places - nearest) <= SPREAD, labels[nearest], BLANK)
