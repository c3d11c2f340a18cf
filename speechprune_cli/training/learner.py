"""Nano's trainable part, projector and decoder, and its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from speechprune_cli.training.tasks import QuestionAnswer
from speechprune_cli.training.text import VOCABULARY

END, IM_END, AUDIO_BOS, AUDIO, AUDIO_EOS = 0, 2, 3, 4, 5
"""Ids of the special tokens, in the order of `text.SPECIALS`."""
IGNORED = -100


@dataclass(frozen=True)
class Loss:
    """A loss to descend, and how many answers were right to the last token (teacher-forced).

    Every answer counts the same, however long.
    """

    value: Tensor
    right: int
    asked: int


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

    def answer_loss(self, recordings: Sequence[tuple[Tensor, Sequence[QuestionAnswer]]]) -> Loss:
        """Cross-entropy of all answers about recordings `[N_i, D]`, in one packed row.

        A recording stands once in the row, its questions behind it; a question sees its recording
        and itself only, and its positions follow on those of the recording.
        """
        sounds: list[Tensor] = []
        ids: list[int] = []
        targets: list[int] = []
        positions: list[int] = []
        recording: list[int] = []
        question: list[int] = []
        asked_before = 0
        for number, (heard, asked) in enumerate(recordings):
            length = len(heard) + 2
            sounds.append(heard)
            ids += [AUDIO_BOS, *[AUDIO] * len(heard), AUDIO_EOS]
            targets += [IGNORED] * length
            positions += range(length)
            recording += [number] * length
            question += [-1] * length
            for qa in asked:
                before, answer = [*self.ids(qa.question), IM_END], [*self.ids(qa.answer), END]
                added = len(before) + len(answer) - 1
                ids += before + answer[:-1]
                targets += [IGNORED] * (len(before) - 1) + answer
                positions += range(length, length + added)
                recording += [number] * added
                question += [asked_before] * added
                asked_before += 1
        row = self.embed(ids)
        row[torch.tensor(ids) == AUDIO] = torch.cat(sounds).to(row.dtype)
        seen = _sees(torch.tensor(recording), torch.tensor(question)).to(self.device)
        hidden = self.lm.model(
            inputs_embeds=row[None],
            attention_mask=seen[None, None],
            position_ids=torch.tensor([positions], device=self.device),
            use_cache=False,
        ).last_hidden_state[0]
        target = torch.tensor(targets, device=self.device)
        owners = torch.tensor(question, device=self.device)
        return self._cross_entropy(hidden, target, owners, asked_before)

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


def _sees(recording: Tensor, question: Tensor) -> Tensor:
    """Who sees whom in a packed row, bool `[n, n]`; `question` is -1 inside a recording."""
    same = recording[:, None] == recording[None]
    shared = (question == -1)[None] | (question[:, None] == question[None])
    return (same & shared).tril()
