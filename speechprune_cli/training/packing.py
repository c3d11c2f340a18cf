"""Recordings and questions about them in one row, so that many questions share a recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from speechprune_cli.training.tasks import QuestionAnswer
from speechprune_cli.training.text import SPECIALS

END, IM_END, AUDIO_BOS, AUDIO, AUDIO_EOS = (
    SPECIALS.index(name) for name in SPECIALS if name != "<|im_start|>"
)
IGNORED = -100
NOTHING = -1
"""Where a position belongs to no question, to no sentence, or says no word."""


@dataclass(frozen=True)
class PackedRecording:
    """Sentences, and questions about them."""

    sentences: Sequence[Tensor]
    """Embeddings `[N_i, D]` of each sentence's tokens."""
    said: Sequence[Tensor]
    """The text token said at each of them, `[N_i]`."""
    asked: Sequence[QuestionAnswer]

    def __len__(self) -> int:
        return sum(map(len, self.sentences))


@dataclass(frozen=True)
class Row:
    """Each recording followed by its questions; every field is `[n]`."""

    ids: Tensor
    positions: Tensor
    """As if the question stood alone behind its recording."""
    targets: Tensor
    """The answer's token to say next, or IGNORED."""
    recording: Tensor
    question: Tensor
    sentence: Tensor
    """Number of the sentence that a position of a recording belongs to."""
    said: Tensor
    """The text token heard there."""
    source: Tensor
    """Number of the sentence that answers, where an answer's token is due."""

    def to(self, device: torch.device) -> Row:
        """The same on another device."""
        return Row(*(getattr(self, field.name).to(device) for field in fields(self)))

    def seen(self) -> Tensor:
        """Who sees whom, bool `[n, n]`: a question its recording and itself, as far as said."""
        same = self.recording[:, None] == self.recording[None]
        shared = (self.question == NOTHING)[None] | (self.question[:, None] == self.question[None])
        return (same & shared).tril()


def pack(recordings: Sequence[PackedRecording], ids_of: Callable[[str], list[int]]) -> Row:
    """One row of all recordings and questions, on the CPU."""
    parts: list[Row] = []
    asked = sentences = 0
    for number, heard in enumerate(recordings):
        parts.append(_recording(heard, number, sentences))
        for qa in heard.asked:
            question, answer = [*ids_of(qa.question), IM_END], [*ids_of(qa.answer), END]
            source = NOTHING if qa.sentence is None else sentences + qa.sentence
            parts.append(_question(question, answer, len(heard) + 2, number, asked, source))
            asked += 1
        sentences += len(heard.sentences)
    return Row(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(Row)))


def _recording(heard: PackedRecording, number: int, first_sentence: int) -> Row:
    length = len(heard) + 2
    nothing = torch.full((length,), NOTHING)
    ids = torch.full((length,), AUDIO)
    ids[0], ids[-1] = AUDIO_BOS, AUDIO_EOS
    sentence, said = nothing.clone(), nothing.clone()
    lengths = torch.tensor([len(part) for part in heard.sentences])
    sentence[1:-1] = first_sentence + torch.arange(len(lengths)).repeat_interleave(lengths)
    said[1:-1] = torch.cat(list(heard.said))
    return Row(
        ids=ids,
        positions=torch.arange(length),
        targets=torch.full((length,), IGNORED),
        recording=torch.full((length,), number),
        question=nothing,
        sentence=sentence,
        said=said,
        source=nothing,
    )


def _question(
    question: list[int], answer: list[int], start: int, recording: int, number: int, source: int
) -> Row:
    before, length = len(question) - 1, len(question) + len(answer) - 1
    nothing = torch.full((length,), NOTHING)
    return Row(
        ids=torch.tensor(question + answer[:-1]),
        positions=start + torch.arange(length),
        targets=torch.tensor([IGNORED] * before + answer),
        recording=torch.full((length,), recording),
        question=torch.full((length,), number),
        sentence=nothing,
        said=nothing,
        source=torch.tensor([NOTHING] * before + [source] * len(answer)),
    )
