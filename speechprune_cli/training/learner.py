"""Nano's trainable part, projector and decoder, and its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from speechprune_cli.training.looking import looking_loss, watched
from speechprune_cli.training.packing import (
    AUDIO,
    AUDIO_BOS,
    AUDIO_EOS,
    END,
    IGNORED,
    IM_END,
    PackedRecording,
    pack,
)
from speechprune_cli.training.tasks import QuestionAnswer
from speechprune_cli.training.text import VOCABULARY


@dataclass(frozen=True)
class Loss:
    """A loss to descend, and how many answers were right to the last token (teacher-forced).

    Every answer counts the same, however long.
    """

    value: Tensor
    right: int
    asked: int
    looking: Tensor = field(default_factory=lambda: torch.zeros(()))
    """See `looking.looking_loss`."""


class Learner(nn.Module):
    """A linear projector `[encoder width] -> [D]` and a Llama with tied embeddings."""

    def __init__(self, tokenizer: Tokenizer, encoder_width: int = 512) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=1024,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=131072,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=END,
            initializer_range=0.04,
        )
        self.lm = LlamaForCausalLM(config)
        self.projector = nn.Linear(encoder_width, config.hidden_size)
        self.projector.weight.data.mul_(0.2)
        self.cosine_scale = nn.Parameter(torch.tensor(16.0))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.projector.weight.device

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, no special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def embed(self, ids: Sequence[int]) -> Tensor:
        """`[len(ids), D]`."""
        return self.lm.model.embed_tokens(torch.tensor(ids, device=self.device))

    def prefix(self, inside: Tensor) -> Tensor:
        """`[N, D]` audio or text embeddings between the audio markers: `[1, N + 2, D]`."""
        return torch.cat([self.embed([AUDIO_BOS]), inside, self.embed([AUDIO_EOS])])[None]

    def answer_loss(self, recordings: Sequence[PackedRecording]) -> Loss:
        """Cross-entropy of all answers about recordings, in one packed row."""
        row = pack(recordings, self.ids).to(self.device)
        embeds = self.lm.model.embed_tokens(row.ids)
        sounds = torch.cat([part for heard in recordings for part in heard.sentences])
        embeds[row.ids == AUDIO] = sounds.to(embeds.dtype)
        seen = row.seen()
        with watched(self.lm.model.layers) as given:
            hidden = self.lm.model(
                inputs_embeds=embeds[None],
                attention_mask=seen[None, None],
                position_ids=row.positions[None],
                use_cache=False,
            ).last_hidden_state[0]
        asked = sum(len(heard.asked) for heard in recordings)
        loss = self._cross_entropy(hidden, row.targets, row.question, asked)
        return replace(loss, looking=looking_loss(self.lm.model.layers, given, row, seen))

    def batch_loss(self, heard: Sequence[Tensor], asked: Sequence[QuestionAnswer]) -> Loss:
        """Cross-entropy of one answer to each short recording `[N, D]`, as a right-padded batch."""
        rows, targets = [], []
        for embeds, qa in zip(heard, asked, strict=True):
            question, answer = [*self.ids(qa.question), IM_END], [*self.ids(qa.answer), END]
            rows.append(torch.cat([self.prefix(embeds)[0], self.embed(question + answer[:-1])]))
            before = len(embeds) + 2 + len(question) - 1
            targets.append(torch.tensor([IGNORED] * before + answer))
        hidden = self.lm.model(
            inputs_embeds=nn.utils.rnn.pad_sequence(rows, batch_first=True), use_cache=False
        ).last_hidden_state
        target = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED)
        target = target.to(hidden.device)
        owners = torch.arange(len(rows), device=hidden.device)[:, None].expand_as(target)
        return self._cross_entropy(
            hidden.flatten(0, 1), target.flatten(), owners.flatten(), len(rows)
        )

    def _cross_entropy(self, hidden: Tensor, targets: Tensor, owners: Tensor, asked: int) -> Loss:
        wanted = targets != IGNORED
        logits = self.lm.lm_head(hidden[wanted]).float()
        losses = F.cross_entropy(logits, targets[wanted], reduction="none")
        wrong = logits.argmax(-1) != targets[wanted]
        zeros, owner = torch.zeros(asked, device=hidden.device), owners[wanted]
        failed = zeros.index_add(0, owner, wrong.float())
        means = zeros.index_add(0, owner, losses) / zeros.index_add(
            0, owner, torch.ones_like(losses)
        )
        return Loss(means.mean(), int((failed == 0).sum()), asked)

    def alignment_loss(self, audio: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the word said at each audio token, through the cosine to all words.

        `audio` `[N, D]` after the projector, `labels` `[N]` from `align.label`. It brings audio
        tokens close to the embeddings of the words they carry.
        """
        with torch.autocast(audio.device.type, enabled=False):
            words = F.normalize(self.lm.model.embed_tokens.weight, dim=-1)
            logits = self.cosine_scale * F.normalize(audio.float(), dim=-1) @ words.T
            return F.cross_entropy(logits, labels.to(audio.device))
