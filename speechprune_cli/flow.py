"""The data that flows through the tool, one frozen dataclass per arrow.

    Audio -> AudioTokens -> Selection -> Prompt -> Answer

Notation as in SpeechPrune (arXiv 2412.12009): N audio tokens, L question tokens, D the language
model's embedding width, B1 the budget of phase 1, k the tokens retained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from speechprune_cli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SAMPLE_RATE = 16_000
ENCODER_ATTENTION = "the encoder's attention"
TRANSCRIPT = "a transcript"
"""What a model may provide and a pruning method require: `AudioTokens.attention`, `.transcript`."""


@dataclass(frozen=True)
class Audio:
    """A decoded recording, mixed down to mono at 16 kHz."""

    samples: np.ndarray  # float32 [T]
    source: str  # the path as given, or `-`
    sha256: str  # of the file's bytes and the track asked for; left empty, that of the samples
    source_rate: int
    channels: int
    source_seconds: float  # before resampling
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.sha256:
            content = b"float32 samples" + self.samples.tobytes()
            object.__setattr__(self, "sha256", hashlib.sha256(content).hexdigest())

    @property
    def seconds(self) -> float:
        """Length of `samples`."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class Word:
    """As it was written: with the blank before it, where the language sets one."""

    text: str
    start: float  # seconds of the recording
    end: float


@dataclass(frozen=True)
class Sentence:
    """Words in a row, at least one."""

    words: tuple[Word, ...]

    @property
    def start(self) -> float:
        """When its first word begins."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """When its last word ends."""
        return self.words[-1].end

    @property
    def text(self) -> str:
        """Its words, as a line."""
        return "".join(word.text for word in self.words).strip()


@dataclass(frozen=True)
class Transcript:
    """All that was said in a recording."""

    sentences: tuple[Sentence, ...]
    language: str | None  # two letters, as Whisper names it; None where nobody told
    origin: str  # who wrote it: a recogniser and its settings, or a file
    notes: tuple[str, ...] = ()  # for people, one line each: what was dropped, and why
    sure: float | None = None  # how likely it is that language; None where it was told
    seconds: float = field(default=0.0, compare=False, repr=False)  # that recognising took
    kept: bool = field(default=False, compare=False, repr=False)  # whether it was there already

    @property
    def words(self) -> Iterator[Word]:
        """Of all sentences, in order."""
        return (word for sentence in self.sentences for word in sentence.words)


@dataclass(frozen=True)
class AudioTokens:
    """A whole recording as the language model would read it, nothing dropped yet."""

    embeds: Tensor  # [N, D], after the projector
    times: Tensor
    """float32 `[N, 2]`: start and end of each token in the recording, in seconds. Tokens of what
    an encoder adds behind the end of the recording have no length."""
    per_second: float  # tokens per second, f in the paper (25 for Qwen2-Audio)
    seconds: float  # of what was encoded
    encode_seconds: float  # that encoding took
    loudness: Tensor  # float32 [N]: of the sound under each token, dB of full scale, at least -100
    attention: Tensor | None = None
    """float32 `[N]`: attention that each token received in the encoder's last layer, over the
    queries of its window and all heads; 1 is a fair share. None where the model does not tell."""
    nominal_times: bool = False  # a guess, as where learned queries look at a whole window
    from_cache: bool = False
    sentences: Tensor | None = None  # int64 [N]: number of the sentence of each, where one tells
    words: Tensor | None = None  # int64 [N]: number of the word that each begins in, likewise
    ids: Tensor | None = None  # int64 [N]: of words, where `embeds` are those of words
    transcript: Transcript | None = None  # what they were made of, where that is text
    recording: str = ""  # SHA-256 of the recording, where a session encoded it
    warnings: tuple[str, ...] = ()  # those of the recording: `Audio.warnings`

    def __len__(self) -> int:
        return len(self.embeds)

    @property
    def word_of(self) -> Tensor:
        """Number of each token's word, int64 `[N]` on the CPU; without words, each is one."""
        import torch

        return torch.arange(len(self)) if self.words is None else self.words.cpu()


@dataclass(frozen=True)
class FirstLayer:
    """Query and key projections of the first decoder layer, unquantised, for phase 2."""

    q_weight: Tensor  # [heads * head_dim, D]
    k_weight: Tensor  # [kv_heads * head_dim, D]
    heads: int
    kv_heads: int


@dataclass(frozen=True)
class PruningTask:
    """All that a pruner may look at."""

    tokens: AudioTokens
    text: Tensor  # [L, D]: the question alone, no system prompt and no special tokens
    asked: str  # the same in letters
    question_length: int  # of the L tokens, those of the question: behind them stand its options
    vocabulary_mean: Tensor  # [D]: of all the model's word embeddings
    first_layer: FirstLayer
    first: int  # tokens of the model's own input length, 30 s for Qwen2-Audio; at most N
    phase1_budget: int  # B1: what phase 1 leaves, by default `first`; at most N
    keep: int  # k: tokens to retain, 1 <= k <= N

    @property
    def attention(self) -> Tensor:
        """The encoder's. Raises UsageError where the model does not tell."""
        if self.tokens.attention is None:
            raise UsageError(f"this model does not give {ENCODER_ATTENTION}")
        return self.tokens.attention

    @property
    def transcript(self) -> Transcript:
        """What was said. Raises UsageError where the model does not write it down."""
        if self.tokens.transcript is None:
            raise UsageError(f"this model does not give {TRANSCRIPT}")
        return self.tokens.transcript


@dataclass(frozen=True)
class Merge:
    """How dropped tokens are averaged into retained ones."""

    into: Tensor  # int64 [N]: number, among the k retained, of the token that each one joins
    weights: Tensor  # float32 [N]: each token's weight in that average; 0 where it is dropped

    def average(self, embeds: Tensor, retained: int) -> Tensor:
        """Weighted means `[retained, D]` of `embeds` `[N, D]`, taken in float32."""
        import torch

        into, weights = (each.to(embeds.device) for each in (self.into, self.weights))
        sums = torch.zeros(retained, embeds.shape[1], device=embeds.device)
        sums.index_add_(0, into, embeds.float() * weights[:, None])
        totals = torch.zeros(retained, device=embeds.device).index_add_(0, into, weights)
        return (sums / totals[:, None]).to(embeds.dtype)


@dataclass(frozen=True)
class Selection:
    """Which tokens of a recording are retained, and why."""

    kept: Tensor  # int64 [k], sorted, unique: indices into the N tokens
    scores: Tensor  # float32 [N], CPU: higher is rather kept, -inf where a method never looked
    method: str
    reason: str  # one line for people
    phase1_budget: int  # B1 as it was used
    seconds: float  # that selecting took
    merge: Merge | None = None  # None where retained tokens are as the model encoded them
    warning: str = ""  # one line for people where the choice should not be trusted
    asks: bool = True  # whether another question may keep other tokens
    recording: str = ""  # SHA-256 of the recording whose tokens they are, where it is known

    @classmethod
    def none(cls, method: str, budget: int = 0) -> Self:
        """No token: what is kept of a recording without words."""
        import torch

        none = torch.zeros(0, dtype=torch.int64)
        return cls(none, torch.zeros(0), method, "there is nothing to choose from", budget, 0.0)

    def check(self, tokens: AudioTokens) -> None:
        """Raise UsageError where these are no tokens of that recording."""
        known = bool(self.recording and tokens.recording)
        other = known and self.recording != tokens.recording
        if len(self.kept) and (other or len(self.scores) != len(tokens)):
            raise UsageError("this selection is of another recording: prune the one that is asked")

    def apply(self, tokens: AudioTokens) -> Tensor:
        """Retained embeddings `[k, D]` in time order, those of merging methods averaged."""
        if self.merge is not None:
            return self.merge.average(tokens.embeds, len(self.kept))
        return tokens.embeds[self.kept.to(tokens.embeds.device)]

    def words(self, tokens: AudioTokens) -> Tensor | None:
        """Ids `[k]` of retained words; None of sound, and of words that were averaged."""
        if tokens.ids is None or self.merge is not None:
            return None
        return tokens.ids[self.kept.to(tokens.ids.device)]


@dataclass(frozen=True)
class PromptIds:
    """A chat prompt as token ids around the audio: text that is tokenised again may differ."""

    before: Sequence[int]
    after: Sequence[int]
    text: str  # the same for people, the audio in one word


@dataclass(frozen=True)
class Prompt:
    """What the language model reads: the retained audio inside the rendered chat prompt."""

    inputs_embeds: Tensor  # [1, n, D]
    position_ids: Tensor  # int64 [1, n], or [3, 1, n] where a model counts in three rows (M-RoPE)
    text: str  # the prompt for people, the audio in one word
    audio_tokens: int
    text_tokens: int
    shared: int = 0
    """Leading tokens that other questions begin with too: what is read of them is kept."""
    before: Sequence[int] = ()  # token ids in front of the audio, where it is known what they are
    after: Sequence[int] = ()  # and behind it
    audio_ids: Tensor | None = None
    """int64 `[k]`: of retained words, where they are those of a vocabulary, each as it was."""
    asked: str = ""  # the question with the options that the prompt shows

    @property
    def audio(self) -> Tensor:
        """The retained tokens `[k, D]`, a view."""
        return self.inputs_embeds[0, len(self.before) :][: self.audio_tokens]


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it cost."""

    text: str
    probabilities: dict[str, float] | None  # per option of a multiple-choice question
    new_tokens: int
    finished: bool  # False where `max_new_tokens` cut the answer short
    prefill_seconds: float
    decode_seconds: float
    peak_memory_bytes: int
    ties: int = 0  # tokens, or a choice, that hung by a hair, where another process decided


NO_WORDS = "There are no words in this recording."
"""The answer to every question about a recording in which a recogniser finds none."""
NOTHING_SAID = Answer(NO_WORDS, None, 0, True, 0.0, 0.0, 0)


class PromptReader(Protocol):
    """Who reads prompts in a model's place; see `SpeechLM` for the meanings.

    With `by_letter`, options are told apart by their letters, so that prompts have to show them.
    """

    by_letter: bool
    at_once: int  # prompts that it can be asked side by side
    decisions: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """What answers depend on, for a run's files."""

    def close(self) -> None:
        """Give up what is under way."""

    def generate(
        self, prompt: Prompt, max_new_tokens: int, on_text: Callable[[str], None] | None
    ) -> Answer: ...
    def generate_batch(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Answer]: ...
    def choose_batch(
        self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]
    ) -> list[Answer]: ...
