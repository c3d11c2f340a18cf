"""Nano's text: lower case, no punctuation, numbers as words; its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from num2words import num2words
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from speechprune_cli.errors import UsageError

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_bos|>",
    "<|AUDIO|>",
    "<|audio_eos|>",
)
BLANK = 1
"""`<|im_start|>`, which no prompt of nano's uses, labels silence."""
VOCABULARY = 2048


def normalise(text: str) -> str:
    """Words as they are spoken: `Sold 30, in 1984!` -> `sold thirty in nineteen eighty four`."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"\d+", lambda m: f" {_spell(int(m.group()))} ", text)
    text = re.sub(r"[^a-z' ]+", " ", text.lower().replace("’", "'"))
    return " ".join(text.split())


def _spell(number: int) -> str:
    return num2words(number, to="year" if 1100 <= number < 2100 else "cardinal").replace("-", " ")


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE that reads any text and ignores case and punctuation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^\p{L}\p{N}']+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """From `tokenizer.json`. Raises UsageError where there is none."""
    if not path.exists():
        raise UsageError(f"{path} is missing: run `encoder`")
    return Tokenizer.from_file(str(path))
