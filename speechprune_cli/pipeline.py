"""The Python API: load a model once, encode a recording once, then prune and ask at will.

>>> session = load("nano")
>>> tokens = session.encode("meeting.wav")
>>> selection = session.prune(tokens, "When is the report due?", keep="10%")
>>> answer = session.answer(tokens, selection, "When is the report due?")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial, wraps
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from speechprune_cli.backends._prompts import checked, unread
from speechprune_cli.errors import UsageError
from speechprune_cli.flow import NO_WORDS, NOTHING_SAID, PruningTask, Selection, Transcript
from speechprune_cli.pruners.base import query_text
from speechprune_cli.question import by_letter, checked_choices

if TYPE_CHECKING:
    from speechprune_cli.backends.base import ProgressCallback, SpeechLM
    from speechprune_cli.cache import TokenCache
    from speechprune_cli.flow import Answer, AudioTokens, FirstLayer, Prompt, PromptReader
    from speechprune_cli.methods import BudgetOption, MethodSpec
    from speechprune_cli.sources import Recording

LOADING = Lock()
"""Held while a model is loaded: libraries keep what they do then, such as the dtype, for all."""
Given = ParamSpec("Given")
Back = TypeVar("Back")


@dataclass(frozen=True)
class Result:
    """All that `Session.ask` went through."""

    tokens: AudioTokens
    selection: Selection
    prompt: Prompt
    answer: Answer


def load(
    model: str | None = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    offline: bool = False,
    cache: bool = True,
    language: str | None = None,
    server: str | None = None,
) -> Session:
    """Load a Speech LLM by preset name, folder or Hub id, or `RECOGNISER+READER`.

    None is the model of `speechprune models use`, else `nano`. `language` is what is spoken, for
    models that write transcripts (default: as it sounds). `server` is the address of an
    OpenAI-compatible server that reads the prompts: then no decoder is loaded here (`remote/`).
    Raises what `load_backend` and `connect` raise, and UsageError for a language that the model
    does not know, and for `quantize` with a server.
    """
    from speechprune_cli.backends import load_backend
    from speechprune_cli.cache import TokenCache
    from speechprune_cli.config import TRANSCRIPT, default_model, resolve_model
    from speechprune_cli.remote import connect
    from speechprune_cli.remote.address import Address

    if server is not None:
        Address.parse(server)  # before the model takes its time
    preset = resolve_model(model or default_model())
    if server is not None and quantize != "none":
        raise UsageError(f"--quantize {quantize}: with --server, the decoder to quantise is there")
    if language is not None and preset.family != TRANSCRIPT:
        raise UsageError(f"{preset.name} takes no --language: it writes no transcript")
    whole = partial(load_backend, preset, revision, device, dtype, quantize, offline)
    with LOADING:
        backend = whole(decoder=server is None)
        reader = None if server is None else connect(server, backend, whole)
    if language is not None:
        backend.hear(language)
    return Session(backend, TokenCache() if cache else None, reader)


def _in_turn(
    step: Callable[Concatenate[Session, Given], Back],
) -> Callable[Concatenate[Session, Given], Back]:
    """A step that runs the model: threads take turns."""

    @wraps(step)
    def alone(session: Session, /, *given: Given.args, **named: Given.kwargs) -> Back:
        with session.model.lock:
            return step(session, *given, **named)

    return alone


class Session:
    """A loaded Speech LLM, and the cache of what it encoded.

    Any number of threads may use one: they take turns, step by step.
    """

    def __init__(
        self, model: SpeechLM, cache: TokenCache | None = None, reader: PromptReader | None = None
    ) -> None:
        self.model, self.cache, self.reader = model, cache, reader

    @property
    def decisions(self) -> tuple[str, ...]:
        """What was decided as the model was loaded, a line each, with the reason."""
        return (*self.model.decisions, *(self.reader.decisions if self.reader else ()))

    def encode(
        self,
        audio: Recording,
        on_progress: ProgressCallback | None = None,
        transcript: Transcript | str | Path | None = None,
        *,
        sample_rate: int | None = None,
        track: int | None = None,
    ) -> AudioTokens:
        """All tokens of a recording, from the cache where it was encoded before.

        That is a path, bytes or an open file of any format, its `track` counted from 1, or an array
        or tensor of samples with their `sample_rate` (`sources.py`). A model that reads transcripts
        takes a `transcript`, or a file of one, instead of recognising. Raises TypeError,
        AudioError, NumericError, OutOfMemoryError, UsageError.
        """
        from speechprune_cli.sources import as_audio
        from speechprune_cli.transcripts.files import read_transcript

        heard = as_audio(audio, sample_rate, track)  # before it is this thread's turn: a pipe waits
        if not isinstance(transcript, Transcript | None):
            transcript = read_transcript(transcript)
        with self.model.lock:
            if transcript is None:
                tokens = self.model.encode_once(heard, self.cache, on_progress)
            else:
                tokens = self.model.read_transcript(heard, transcript)
        return replace(tokens, recording=heard.sha256, warnings=heard.warnings)

    def prune(
        self,
        tokens: AudioTokens,
        question: str,
        *,
        method: str | None = None,
        rate: float | None = None,
        keep: str | int | None = None,
        budget: BudgetOption = None,
        choices: Iterable[str] = (),
        query: str | None = None,
        **settings: Any,
    ) -> Selection:
        """Select the tokens that `question` needs.

        `keep` says how much stays: `"20%"` of the recording, or `150` tokens. `rate` says it as the
        paper does, by the share of B1 to drop: k = B1 (1 - rate). `budget` is B1, what phase 1
        leaves (default: the model's own input length; "all": every token). `query` says what the
        audio is matched against: the `question`, or `question+choices` (default: as the method
        does by itself). `settings` are the method's own. Raises `UsageError`.
        """
        from speechprune_cli.methods import MethodSpec, amount_of, default_amount, defaults_of

        defaults = defaults_of(self.model.preset)
        amount = amount_of(rate, keep) or default_amount(defaults)
        spec = MethodSpec.parse(method or defaults.method, amount, preset=defaults.settings)
        spec = spec.told(settings)
        return self.select(tokens, question, spec, budget=budget, choices=choices, query=query)

    @_in_turn
    def select(
        self,
        tokens: AudioTokens,
        question: str,
        spec: MethodSpec,
        *,
        budget: BudgetOption = None,
        choices: Iterable[str] = (),
        query: str | None = None,
    ) -> Selection:
        """`prune` by a method that is parsed already."""
        from speechprune_cli.methods import Amount, pruning_size

        self.check_method(spec)
        choices = self.check(question, choices)
        if not len(tokens):
            return replace(Selection.none(spec.name), recording=tokens.recording)
        amount = spec.amount or Amount(rate=0.0)
        size = pruning_size(len(tokens), self.model.input_tokens, budget, amount)
        asked = query_text(question, choices, spec.pruner.query if query is None else query)
        task = PruningTask(
            tokens=tokens,
            text=self.model.embed_text(asked),
            asked=asked,
            question_length=len(self.model.text_ids(question)),
            vocabulary_mean=self.model.vocabulary_mean,
            first_layer=self._first_layer,
            first=size.first,
            phase1_budget=size.budget,
            keep=size.kept,
        )
        return replace(spec.select(task), recording=tokens.recording)

    @_in_turn  # tokenizers are no more to be shared than models
    def check(self, question: str, choices: Iterable[str] = ()) -> tuple[str, ...]:
        """The options. Raises UsageError for a question or options that cannot be asked."""
        return checked(self.model, question, choices)

    @_in_turn
    def unread(self, question: str, choices: Iterable[str] = ()) -> str:
        """Letters, digits and symbols of them for which the model has no tokens."""
        return unread(self.model, question, *choices)

    def doubts(self, tokens: AudioTokens) -> tuple[str, ...]:
        """What may make answers worth less, one line each.

        A recording that is longer than the model was made for, what a recogniser dropped, and a
        language that the reader is not known to read.
        """
        transcript, preset = tokens.transcript, self.model.preset
        longest, found = self.model.longest_seconds, list[str]()
        if longest is not None and tokens.seconds > longest:
            beyond = f"{tokens.seconds:,.0f} s: {preset.name} was made for {longest:,.0f} s at most"
            found.append(f"{beyond}; all of it is heard, and how well nobody has measured")
        if transcript is None:
            return tuple(found)
        known = preset.known_languages
        if known and transcript.language not in (None, *known):
            read = f"{preset.name} is not known to read '{transcript.language}'"
            found.append(f"{read}: expect nonsense")
        return (*found, *transcript.notes)

    def check_method(self, spec: MethodSpec) -> None:
        """Raise UsageError where a method needs what this model does not give."""
        spec.check_family(type(self.model))

    @_in_turn
    def build_prompt(
        self,
        tokens: AudioTokens,
        selection: Selection,
        question: str,
        *,
        choices: Iterable[str] = (),
        position: str | None = None,
        list_choices: bool | None = None,
        share: bool = False,
    ) -> Prompt:
        """What the model reads: with options where `list_choices` says so (default: the preset).

        `share` says that other questions will follow the same tokens, which are read only once.
        Raises UsageError, also for a selection of another recording.
        """
        choices = self.check(question, choices)
        selection.check(tokens)
        defaults, question = self.model.preset.defaults, question.strip()
        position = position or defaults.position
        if list_choices is None:
            list_choices = defaults.list_choices
        if self.reader is not None:
            if position != "repacked":
                raise UsageError(f"--position {position}: a server counts the tokens it is sent")
            if choices and self.reader.by_letter:
                list_choices, question = True, by_letter(question)
        shown = choices if list_choices else ()
        with self._room(len(selection.kept)):
            return self.model.build_prompt(
                tokens, selection, question, position, shown, share or not selection.asks
            )

    def _room(self, count: int) -> AbstractContextManager[None]:
        """For the embeddings of so many tokens, twice. Raises OutOfMemoryError."""
        from speechprune_cli.device import memory_guard

        model = self.model
        needed = 2 * count * model.hidden_size * model.dtype.itemsize
        return memory_guard(f"a prompt of {count:,} tokens", needed, model.device, "to keep less")

    def respond(
        self,
        prompt: Prompt,
        *,
        choices: Iterable[str] = (),
        max_new_tokens: int = 64,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer a prompt: freely, or with the likeliest of `choices`.

        A prompt without audio, of a recording in which a recogniser found no words, is answered by
        `NO_WORDS`: the model is not called.
        """
        choices = checked_choices(choices)
        if not prompt.audio_tokens:
            if on_text is not None and not choices:
                on_text(NO_WORDS)
            return NOTHING_SAID
        with self._reading() as reader:
            if choices:
                return reader.choose_batch([prompt], [choices])[0]
            return reader.generate(prompt, max_new_tokens, on_text)

    def respond_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        choices: Sequence[Sequence[str]] | None = None,
        max_new_tokens: int = 64,
    ) -> list[Answer]:
        """`respond` to prompts side by side, the shorter ones padded: best where about as long."""
        with self._reading() as reader:
            if choices is None:
                return reader.generate_batch(prompts, max_new_tokens)
            return reader.choose_batch(prompts, choices)

    @contextmanager
    def _reading(self) -> Iterator[SpeechLM | PromptReader]:
        """Who reads prompts: the model, one thread at a time, or a server, all that ask."""
        with self.model.lock if self.reader is None else nullcontext():
            yield self.reader or self.model

    def answer(
        self,
        tokens: AudioTokens,
        selection: Selection,
        question: str,
        *,
        choices: Iterable[str] = (),
        max_new_tokens: int = 64,
        position: str | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer `question` from the retained tokens alone."""
        choices = checked_choices(choices)
        prompt = self.build_prompt(tokens, selection, question, choices=choices, position=position)
        return self.respond(prompt, choices=choices, max_new_tokens=max_new_tokens, on_text=on_text)

    def ask(
        self,
        audio: Recording,
        question: str,
        *,
        sample_rate: int | None = None,
        track: int | None = None,
        choices: Iterable[str] = (),
        max_new_tokens: int = 64,
        position: str | None = None,
        on_text: Callable[[str], None] | None = None,
        on_progress: ProgressCallback | None = None,
        **pruning: Any,
    ) -> Result:
        """Encode, prune and answer in one call; `pruning` is what `prune` takes."""
        choices = self.check(question, choices)
        tokens = self.encode(audio, on_progress, sample_rate=sample_rate, track=track)
        selection = self.prune(tokens, question, choices=choices, **pruning)
        prompt = self.build_prompt(tokens, selection, question, choices=choices, position=position)
        answer = self.respond(
            prompt, choices=choices, max_new_tokens=max_new_tokens, on_text=on_text
        )
        return Result(tokens, selection, prompt, answer)

    @cached_property
    def _first_layer(self) -> FirstLayer:
        return self.model.first_layer()
