"""The seam: what the tool asks of a Speech LLM, whatever its family.

A family is one file beside this one with one subclass of `SpeechLM` (or a class of another
package, behind an entry point of the group `speechprune.families`). `stock.py` is for classes that
transformers has, `windowed.py` for encoders that hear one window at a time. Importing a family
imports neither torch nor transformers: that is left to its methods, so that costs can be counted
at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Set
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar

from speechprune_cli.backends._prompts import positions, with_options
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import Prompt, PromptIds

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from speechprune_cli.backends.decoding import KeptPrefix
    from speechprune_cli.backends.shape import EncoderShape, Shape
    from speechprune_cli.cache import TokenCache
    from speechprune_cli.checkpoint import Checkpoint
    from speechprune_cli.config import Preset
    from speechprune_cli.device import Placement
    from speechprune_cli.flow import Answer, Audio, AudioTokens, FirstLayer, Selection, Transcript

PROMPT_EMBEDS, AUDIO_EMBEDS, TOKEN_IDS = "prompt_embeds", "audio_embeds", "token ids"
"""How a server is given a prompt: all embeddings of it, those of its audio, or words alone."""
UNSERVED = ""  # no server can read it
ProgressCallback = Callable[[int, int], None]  # how much is encoded, and how much there is


class SpeechLM(ABC):
    """A loaded Speech LLM: audio in, text out, with everything between open to pruning."""

    family: ClassVar[str]  # its name: that of the file, or of the entry point
    model_types: ClassVar[tuple[str, ...]]  # what `config.json` calls models of the family
    code_version: ClassVar[str]  # part of the cache's key: changes whenever encode's tokens do
    encoder_shape: ClassVar[type[EncoderShape]]
    provides: ClassVar[frozenset[str]] = frozenset()  # what methods may require, see `flow.py`
    served: ClassVar[str] = PROMPT_EMBEDS  # how its prompts go to a server, see `remote/`
    position_rows: ClassVar[int] = 1  # 3 with M-RoPE: time, height and width, all three the same
    attention_implementation: str = "its own"
    writes: str | None = None  # who writes transcripts, and how; None: it hears by itself
    end_tokens: frozenset[int]

    def __init__(
        self, preset: Preset, shape: Shape, checkpoint: Checkpoint, placement: Placement
    ) -> None:
        self.preset, self.shape, self.checkpoint = preset, shape, checkpoint
        self.revision = checkpoint.revision
        self.longest_seconds = preset.longest_seconds  # None where nobody says
        self.device, self.dtype = placement.device, placement.dtype
        self.quantize, self.decisions = placement.quantize, placement.decisions
        self.kept_prefix: KeptPrefix | None = None  # of the last prompts that share one
        self.lock = RLock()  # held by the one thread that runs the model: hooks, prefixes are its

    # What a family says without weights

    @classmethod
    @abstractmethod
    def describe(cls, preset: Preset, folder: Path) -> Shape:
        """The shape of the model whose `config.json` lies in `folder`. Raises ModelError."""

    @classmethod
    @abstractmethod
    def random(cls, preset: Preset, shape: Shape, placement: Placement) -> SpeechLM:
        """A model of that shape with random weights. It reads no text: any is the same tokens."""

    # What a family says of a loaded model

    @classmethod
    def open(
        cls, preset: Preset, revision: str | None, offline: bool, placement: Placement
    ) -> SpeechLM:
        """Find the files and `load` them. Raises ModelError where they are of another family."""
        from speechprune_cli.checkpoint import open_checkpoint

        checkpoint = open_checkpoint(preset, revision, offline)
        cls.check_type(preset, checkpoint.config.get("model_type"))
        return cls.load(preset, checkpoint, placement)

    @classmethod
    def check_type(cls, preset: Preset, model_type: object) -> None:
        """Raise ModelError for a model of another family."""
        if model_type not in cls.model_types:
            raise ModelError(f"{preset.source} is a '{model_type}' model: expected {cls.family}")

    @classmethod
    def parts(cls, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
        """Further checkpoints that this one is put together with, fetched if need be.

        Raises ModelError, which says how to get them. Most families have none.
        """
        return ()

    @classmethod
    @abstractmethod
    def load(cls, preset: Preset, checkpoint: Checkpoint, placement: Placement) -> SpeechLM:
        """Load weights and tokenizer. Raises `ModelError`, `OutOfMemoryError`."""

    @abstractmethod
    def encode(
        self,
        audio: Audio,
        batch_size: int | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> AudioTokens:
        """All tokens of a recording of any length, `batch_size` windows at a time.

        Raises `AudioError` where it is too short for a single one, `OutOfMemoryError`.
        """

    def rehearse(self, audio: Audio) -> AudioTokens:
        """As many tokens as a recording of that length has, whatever is said in it, to time."""
        return self.encode(audio)

    def encode_once(
        self, audio: Audio, cache: TokenCache | None, on_progress: ProgressCallback | None = None
    ) -> AudioTokens:
        """`encode`, or what `cache` kept of an earlier one. Raises NumericError too."""
        from dataclasses import replace

        from speechprune_cli.backends._finite import check_tokens

        if cache is None:
            return check_tokens(self, audio, self.encode(audio, on_progress=on_progress))
        key = cache.key(
            audio_sha256=audio.sha256,
            model=self.preset.source,
            revision=self.revision,
            dtype=str(self.dtype).removeprefix("torch."),
            code_version=self.code_version,
        )
        found = cache.get(key)
        if found is not None:
            return replace(found, embeds=found.embeds.to(self.device))
        tokens = check_tokens(self, audio, self.encode(audio, on_progress=on_progress))
        cache.put(key, tokens)
        return tokens

    def hear(self, language: str) -> None:
        """Take a language for the one that is spoken. Raises UsageError: most models just hear."""
        raise UsageError(f"{self.preset.name} takes no --language: it writes no transcript")

    def read_transcript(self, audio: Audio, transcript: Transcript) -> AudioTokens:
        """Tokens of what was said, where a transcript says it. Raises UsageError: most hear."""
        raise UsageError(f"{self.preset.name} hears by itself: transcripts are for readers")

    @abstractmethod
    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        """The chat prompt around the audio. Raises `UsageError` for a question that breaks it."""

    @abstractmethod
    def text_ids(self, text: str) -> list[int]:
        """Tokens of `text` alone, nothing before and nothing after it."""

    @property
    def control_ids(self) -> Set[int]:
        """Tokens that steer the model, where `text_ids` may find them in what people write."""
        return frozenset()

    def check_text(self, *texts: str) -> None:
        """Raise UsageError for texts of people in which there are control tokens.

        Raises ModelError too, as `check_ids` does.
        """
        for text in texts:
            ids = self.text_ids(text)
            self.check_ids(ids)
            if self.control_ids & set(ids):
                steers = f"what {self.preset.name} takes for a control token"
                raise UsageError(f"the text {text!r} contains {steers}: write it otherwise")

    @abstractmethod
    def text_of(self, ids: Sequence[int]) -> str:
        """What tokens of an answer say, special ones left out."""

    @property
    @abstractmethod
    def word_embeddings(self) -> Tensor:
        """`[V, D]`."""

    @abstractmethod
    def new_cache(self) -> Any:
        """An empty KV cache, with `batch_select_indices` as transformers' caches have it.

        Iterated over, it gives what each layer remembers, keys first."""

    def fork_cache(self, cache: Any) -> Any:
        """A cache that goes on by itself: what was read is shared, and never written to."""
        return cache.fork()

    @abstractmethod
    def run_decoder(
        self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: Any
    ) -> Tensor:
        """Hidden states `[rows, n, D]` of `embeds` `[rows, n, D]`, appended to `cache`.

        `positions` `[rows, n]`, or `[3, rows, n]` where `position_rows` says so. `mask` `[rows,
        seen + n]` is False for padding; None where nothing is padded, so that attention runs
        causally and builds no n x n matrix.
        """

    @abstractmethod
    def head(self, hidden: Tensor) -> Tensor:
        """Logits `[..., V]` of hidden states `[..., D]`."""

    @abstractmethod
    def first_layer(self) -> FirstLayer:
        """Query and key weights of the first decoder layer, unquantised."""

    # What holds for all

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.checkpoint.parameters

    @property
    def input_tokens(self) -> int:
        """B1 by default: tokens of the model's own input length, or of 30 s."""
        return self.shape.input_tokens

    @property
    def input_seconds(self) -> float:
        """Length of a recording of that many tokens."""
        return self.shape.encoder.input_seconds

    @property
    def hidden_size(self) -> int:
        """D, the width of the embeddings."""
        return self.shape.decoder.hidden_size

    @cached_property
    def vocabulary_mean(self) -> Tensor:
        """Mean `[D]` of all word embeddings, in float32, 8192 of them at a time."""
        import torch

        from speechprune_cli.backends._finite import check_values

        ids = torch.arange(len(self.word_embeddings), device=self.device)
        with torch.no_grad():
            sums = [self.embed_rows(some).float().sum(0) for some in ids.split(8192)]
        mean = torch.stack(sums).sum(0) / len(ids)
        return check_values(self, mean, "the mean of its word embeddings")

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise ModelError for tokens of a tokenizer that is not this model's."""
        if max(ids, default=0) >= (known := len(self.word_embeddings)):
            raise ModelError(
                f"{self.preset.name}: its tokenizer makes token {max(ids):,}, and it has {known:,} "
                "word embeddings: tokenizer files are damaged, or another model's"
            )

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Word embeddings `[n, D]`. Raises ModelError where there are no such."""
        import torch

        self.check_ids(ids)
        with torch.no_grad():
            return self.embed_rows(torch.tensor(ids, dtype=torch.int64, device=self.device))

    def embed_rows(self, ids: Tensor) -> Tensor:
        """Word embeddings `[..., D]` of `ids` `[...]`."""
        from torch.nn.functional import embedding

        return embedding(ids, self.word_embeddings)

    def embed_text(self, text: str) -> Tensor:
        """Word embeddings `[L, D]` of `text` alone. Raises `UsageError` where it is empty."""
        ids = self.text_ids(text)
        if not text.strip():
            raise UsageError("the text to match the audio against is empty")
        if not ids:
            raise UsageError(f"{self.preset.name} has no tokens for {text!r}: use other letters")
        return self.embed(ids)

    def build_prompt(
        self,
        tokens: AudioTokens,
        selection: Selection,
        question: str,
        position: str = "repacked",
        choices: Sequence[str] = (),
        share: bool = False,
    ) -> Prompt:
        """Put the retained tokens where the chat prompt has its audio.

        `share` says that another question will follow the same tokens: what is read of them is
        kept for it.

        `repacked` numbers the shortened prompt 0, 1, 2, ...; `original` leaves every token at the
        position it would have had with nothing pruned. Raises `UsageError` for another `position`.
        """
        import torch

        ids = self.prompt_ids(question, choices)
        before, after = self.embed(ids.before), self.embed(ids.after)
        audio = selection.apply(tokens).to(before)
        return Prompt(
            inputs_embeds=torch.cat([before, audio, after]).unsqueeze(0),
            position_ids=self.position_ids(positions(position, ids, tokens, selection)),
            text=ids.text,
            audio_tokens=len(audio),
            text_tokens=len(ids.before) + len(ids.after),
            shared=len(before) + len(audio) if share else 0,
            before=ids.before,
            after=ids.after,
            audio_ids=selection.words(tokens),
            asked=with_options(question, choices),
        )

    def position_ids(self, positions: Tensor) -> Tensor:
        """`positions` `[n]` as this decoder wants them: `[1, n]`, or `[3, 1, n]`."""
        rows = positions.unsqueeze(0).to(self.device)
        return rows if self.position_rows == 1 else rows.expand(self.position_rows, 1, -1)

    def prefill(self, prompt: Prompt) -> tuple[Any, Tensor]:
        """Read the prompt: its KV cache, and the logits `[V]` of the token that follows."""
        from speechprune_cli.backends.decoding import read_prompts

        state, logits = read_prompts(self, [prompt])
        return state.cache, logits[0]

    def generate(
        self, prompt: Prompt, max_new_tokens: int = 64, on_text: Callable[[str], None] | None = None
    ) -> Answer:
        """Answer greedily: the most likely token each time, no repetition penalty.

        `on_text` receives the answer piece by piece. The end token counts neither into
        `new_tokens` nor into `max_new_tokens`.
        """
        from speechprune_cli.backends.decoding import generate

        return generate(self, [prompt], max_new_tokens, on_text)[0]

    def generate_batch(self, prompts: Sequence[Prompt], max_new_tokens: int = 64) -> list[Answer]:
        """`generate` for prompts read side by side.

        Answers are those of one prompt at a time in float32; in 16 bits, padding may tip a tie.
        Each answer's seconds are its share of the batch's, its peak of memory is the batch's.
        """
        from speechprune_cli.backends.decoding import generate

        return generate(self, prompts, max_new_tokens)

    def choose(self, prompt: Prompt, choices: Sequence[str]) -> Answer:
        """Answer with the likeliest of `choices`; the prompt is read once for all of them.

        `probabilities` is the softmax of the mean log-likelihoods per token (`score_batch`).
        Raises `UsageError` for fewer than two choices, an empty one and two that are the same.
        """
        return self.choose_batch([prompt], [choices])[0]

    def choose_batch(
        self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]
    ) -> list[Answer]:
        """`choose` for prompts read side by side; see `generate_batch` for seconds and memory."""
        from speechprune_cli.backends.decoding import choose

        return choose(self, prompts, choices)
