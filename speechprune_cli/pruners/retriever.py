"""Sentences nearest to the question in meaning: text retrieval with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechprune_cli.costs import QUESTION_TOKENS, PruningSize
from speechprune_cli.extras import need
from speechprune_cli.flow import TRANSCRIPT, PruningTask
from speechprune_cli.pruners._passages import keep_sentences
from speechprune_cli.pruners.base import WITH_CHOICES, Choice, Pruner
from speechprune_cli.weights.minilm import minilm_folder

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 64  # sentences
LONGEST = 256  # tokens of a sentence that are read, as the model's card has it
DECIMALS = 5  # of cosines, so that equal sentences tie, however far each is padded
LINEAR_WEIGHTS = 6 * (4 * 384**2 + 2 * 384 * 1536)
BYTES = 91 * 10**6  # of its weights


class Retriever(Pruner):
    """What a vector search would keep of a transcript: the other control, and a trained one.

    Cosine of each sentence's embedding with the question's, by all-MiniLM-L6-v2, which knows
    English. `speechprune models get all-minilm-l6-v2` fetches it; a run's first question also
    loads it. Sentences are kept whole until the budget is spent; of the last one, what fits.
    """

    reads_embeddings = False
    requires = frozenset({TRANSCRIPT})

    @property
    def query(self) -> str:
        """As `cue` does, which it is the control of."""
        return WITH_CHOICES

    def check(self) -> None:
        need("tokenizers", "retriever", "mini")
        minilm_folder()

    def score_and_keep(self, task: PruningTask) -> Choice:
        import torch

        said = [sentence.text for sentence in task.transcript.sentences]
        device = str(task.tokens.embeds.device)
        vectors = sentence_embeddings([task.asked, *said], minilm_folder(), device)
        worth = (vectors[1:] @ vectors[0]).round(decimals=DECIMALS)
        reason = f"{task.keep} tokens of the sentences nearest to the question in meaning"
        spoken = task.transcript.language
        warning = "" if spoken in (None, "en") else f"retriever knows English, this is '{spoken}'"
        return keep_sentences(task, worth, torch.zeros(len(task.tokens)), reason, warning)

    def flops(self, decoder: Any, size: PruningSize) -> int:
        """Of as many tokens as the decoder reads: both have about as many to a word."""
        return 2 * LINEAR_WEIGHTS * (size.total + QUESTION_TOKENS)

    def working_bytes(self, decoder: Any, size: PruningSize) -> int:
        return BYTES


def sentence_embeddings(texts: Sequence[str], folder: Path, device: str) -> Tensor:
    """Unit vectors `[texts, D]` on the CPU: means of the last layer's states, as it was trained."""
    import torch
    from torch.nn.functional import normalize

    tokenizer, model = load_encoder(folder, device)
    vectors = []
    for start in range(0, len(texts), BATCH):
        encoded = tokenizer.encode_batch(list(texts[start : start + BATCH]))
        ids = torch.tensor([each.ids for each in encoded], device=device)
        mask = torch.tensor([each.attention_mask for each in encoded], device=device)
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors.append(normalize(means, dim=-1).cpu())
    return torch.cat(vectors)


@lru_cache(maxsize=1)
def load_encoder(folder: Path, device: str) -> tuple[Any, Any]:
    """Tokenizer and model, in float32, from files that were checked when they were fetched."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding()
    model = AutoModel.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return tokenizer, model.to(device).eval()
