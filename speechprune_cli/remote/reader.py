"""Answers of a server, as the model would give them itself."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from speechprune_cli.backends.decoding import Generation
from speechprune_cli.errors import ServerError, UsageError
from speechprune_cli.flow import Answer
from speechprune_cli.remote import letters, scoring
from speechprune_cli.remote.http import Client, RefusedError
from speechprune_cli.remote.reply import Piece, Writing
from speechprune_cli.remote.server import LLAMA_CPP, OLLAMA, OTHER, VLLM, Server
from speechprune_cli.remote.ways import CHAT, AudioEmbeds, Body, PromptEmbeds, Way, reason

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.flow import Prompt

GREEDY: dict[str, dict[str, Any]] = {
    VLLM: {
        "temperature": 0,
        "top_p": 1,
        "min_p": 0,
        "repetition_penalty": 1,  # else that of generation_config.json
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "ignore_eos": True,  # an answer ends with the model's end tokens, not the tokenizer's
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    },
    LLAMA_CPP: {"temperature": 0, "repeat_penalty": 1, "presence_penalty": 0},
    OLLAMA: {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0},
}
"""What each engine is told, so that it takes the likeliest token each time; Ollama takes no
`repeat_penalty` in OpenAI's format."""
TIES = {4: 1e-3, 2: 0.05}
"""By bytes a value: two tokens whose log-probabilities are so near, another engine may swap."""


CONTEXTS = {
    VLLM: "--max-model-len",
    LLAMA_CPP: "--ctx-size",
    OLLAMA: "OLLAMA_CONTEXT_LENGTH",
    OTHER: "see its manual",
}
"""What sets how many tokens each engine reads. Some cut a longer prompt and say nothing."""
TOO_LONG = re.compile(r"refuses: 4.*(context (size|length|window)|maximum model length)", re.I)
"""What engines say that refuse one."""


SILENCE = 30.0
"""Seconds after which another server may have started at the same address, unnoticed."""


class FlagError(ServerError):
    """A server that was started without what it is asked for."""


class RemoteReader:
    """A server that reads the prompts of `model`; any number of threads may ask."""

    def __init__(self, model: SpeechLM, client: Client, server: Server, way: Way) -> None:
        self.model, self.client, self.server, self.way = model, client, server, way
        self.behind = way  # how a prompt goes with the beginning of an answer behind it
        self.by_letter = not (way.stepwise and server.engine == VLLM)
        self.at_once = client.at_once
        self.tie = TIES[model.dtype.itemsize]
        self.pool = ThreadPoolExecutor(client.at_once, "server")
        sent = f"prompts go to {client.address.url} ({server.name}, {server.model})"
        self.decisions: tuple[str, ...] = (
            *server.decisions,
            f"{sent} as {reason(way, server)}",
            f"options are scored by {self.options}",
        )
        self.verify: Callable[[], None] = lambda: None
        self._verified, self._lock = client.losses, Lock()
        self._heard = time.monotonic()  # when it was last known to be the one compared

    @property
    def options(self) -> str:
        """How they are told apart, for people."""
        if self.by_letter:
            return "the letter answered: this server does not tell how likely a text is"
        return "the likelihood of their tokens"

    def describe(self) -> dict[str, Any]:
        """What a run's numbers depend on."""
        return {
            "engine": self.server.engine,
            "version": self.server.version,
            "model": self.server.model,
            "prompts": type(self.way).__name__,
            "options": self.options,
            "decisions": list(self.decisions),
        }

    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int = 64,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """As `SpeechLM.generate`. Raises ServerError, UsageError."""
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}: it must be at least 1")
        return self.sure(lambda: self.answer(prompt, max_new_tokens, on_text))

    def generate_batch(self, prompts: Sequence[Prompt], max_new_tokens: int = 64) -> list[Answer]:
        """`generate` for all of them at once."""
        return self.each(lambda prompt: self.generate(prompt, max_new_tokens), prompts)

    def choose_batch(
        self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]
    ) -> list[Answer]:
        """As `SpeechLM.choose_batch`, or by letter where the server tells no more."""
        if len(prompts) != len(choices):
            raise UsageError(f"{len(prompts)} prompts, but choices for {len(choices)}")
        ask = letters.choose if self.by_letter else scoring.choose
        return self.sure(lambda: ask(self, prompts, choices))

    def each(self, ask: Callable[..., Any], *rows: Sequence[Any]) -> list[Any]:
        """What `ask` makes of each row, all of them under way at once."""
        try:
            return list(self.pool.map(ask, *rows))
        except KeyboardInterrupt:
            self.close()
            raise

    def close(self) -> None:
        """Give up what is under way."""
        self.client.close()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def sure(self, ask: Callable[[], Any]) -> Any:
        """What is answered, by the server that was compared.

        One that was away, or with which nobody spoke for a while, is compared anew.
        """
        silent = time.monotonic() - SILENCE
        answer = ask()
        with self._lock:
            losses = self.client.losses
            if self._verified != losses or self._heard < silent:
                self.verify()
            self._verified, self._heard = losses, time.monotonic()
        return answer

    def answer(
        self, prompt: Prompt, max_new_tokens: int, on_text: Callable[[str], None] | None = None
    ) -> Answer:
        """Tried again where the server is busy or away, until some of it was passed on."""
        passed: list[str] = []

        def pass_on(text: str) -> None:
            passed.append(text)
            if on_text is not None:
                on_text(text)

        told = None if on_text is None else pass_on
        return self.client.patiently(
            lambda: self.write(prompt, max_new_tokens, told), lambda: bool(passed)
        )

    def write(
        self, prompt: Prompt, max_new_tokens: int, on_text: Callable[[str], None] | None
    ) -> Answer:
        """Token by token where the server tells their ids, else by their text."""
        vllm = self.server.engine == VLLM
        wanted = max_new_tokens + vllm  # one more tells whether it would have ended there
        told = {"max_tokens": self.room(prompt, wanted), **self.nearest(2)}
        if not vllm:
            told["stream_options"] = {"include_usage": True}
        writing = Writing(Generation(self.model, max_new_tokens, on_text), self.tie)
        with closing(self.pieces(self.body(self.way, prompt, told), prompt)) as pieces:
            for piece in pieces:
                writing.add(piece)
        return writing.answer()

    def beginning(self, prompt: Prompt, count: int, way: Way) -> tuple[list[int] | None, str, bool]:
        """The first `count` tokens of an answer, where their ids are told, their text, and whether
        that is all of it."""
        piece = self.once(prompt, {"max_tokens": self.room(prompt, count)}, way=way)
        ended = piece.finish == "stop"
        if piece.ids is None:
            return None, piece.text.strip(), ended
        return list(piece.ids), self.model.text_of(piece.ids), ended

    def find_behind(self, prompt: Prompt) -> None:
        """Where a server takes embeddings of words too, beginnings of answers go as these."""
        exact = PromptEmbeds(self.model)
        if isinstance(self.way, AudioEmbeds):
            with suppress(FlagError):
                self.once(prompt, {}, way=exact)
                self.behind = exact

    def pieces(self, body: Body, prompt: Prompt) -> Generator[Piece]:
        """Of a streamed answer; the prompt that was read is checked with the first."""
        try:
            for event in self.client.stream(self.way.path, body):
                piece = Piece.read(event)
                self.check(piece, self.way, prompt, ())
                yield piece
        except RefusedError as error:
            raise self.refused(error, self.way) from error

    def once(
        self, prompt: Prompt, told: Body, said: Sequence[int] = (), way: Way | None = None
    ) -> Piece:
        """An answer in one piece, to a prompt whose answer begins with the tokens `said`."""
        way = way or (self.behind if said else self.way)
        told = {"max_tokens": self.room(prompt, 1, len(said)), **told}
        try:
            piece = Piece.read(self.client.post(way.path, self.body(way, prompt, told, said)))
        except RefusedError as error:
            raise self.refused(error, way) from error
        self.check(piece, way, prompt, said)
        return piece

    def first_token(
        self, prompt: Prompt, longest: int, count: int
    ) -> tuple[Answer, Mapping[str, float]]:
        """A short answer, and the likeliest tokens that it may begin with, where they are told."""
        chat = self.way.path == CHAT
        likely = {"logprobs": True, "top_logprobs": count} if chat else {"logprobs": count}
        start, told = time.perf_counter(), {"max_tokens": self.room(prompt, longest)}
        try:
            piece = self.once(prompt, {**told, **likely})
        except RefusedError:  # some know no log-probabilities
            piece = self.once(prompt, told)
        seconds, ended = time.perf_counter() - start, piece.finish != "length"
        answer = Answer(piece.text.strip(), None, piece.count or 0, ended, seconds, 0.0, 0)
        return answer, next(iter(piece.tops), {})

    def body(self, way: Way, prompt: Prompt, told: Body, said: Sequence[int] = ()) -> Body:
        """Of a request."""
        greedy = GREEDY.get(self.server.engine, {"temperature": 0})
        if self.server.engine == VLLM:
            greedy = {**greedy, "stop_token_ids": sorted(self.model.end_tokens)}
        return {"model": self.server.model, **greedy, **way.body(prompt, said), **told}

    def nearest(self, count: int) -> dict[str, Any]:
        """What asks for so many log-probabilities of each token."""
        if self.server.engine != VLLM:
            return {}
        if self.way.path == CHAT:
            return {"logprobs": True, "top_logprobs": count}
        return {"logprobs": count}

    def check(self, piece: Piece, way: Way, prompt: Prompt, said: Sequence[int]) -> None:
        """Raise ServerError where the server read another prompt than it was to, or less of it."""
        if piece.prompt_count and piece.prompt_count < (least := way.least(prompt)):
            raise ServerError(
                f"{self.client.address.url} read {piece.prompt_count:,} tokens of a prompt that "
                f"has {least:,} at least: give it a longer context "
                f"({CONTEXTS[self.server.engine]}), or keep less"
            )
        if not piece.prompt_ids or way.read(prompt, said, list(piece.prompt_ids)):
            return
        if said:
            text = self.model.text_of(said)
            raise UsageError(
                f"choices: the server reads {text!r} in other tokens than they are: start it with "
                f"{PromptEmbeds.flag} too"
            )
        raise ServerError(
            f"{self.client.address.url} puts another chat template around a question than "
            f"{self.model.preset.name} has: start it with --chat-template"
        )

    def room(self, prompt: Prompt, wanted: int, said: int = 0) -> int:
        """Tokens that an answer may have. Raises UsageError where there is no room for any."""
        length = prompt.audio_tokens + prompt.text_tokens + said
        if self.server.context is None:
            return wanted
        if length >= self.server.context:
            raise UsageError(
                f"the prompt has {length:,} tokens, {self.client.address.url} reads "
                f"{self.server.context:,} at most (its {CONTEXTS[self.server.engine]}): keep less"
            )
        return min(wanted, self.server.context - length)

    def refused(self, error: RefusedError, way: Way) -> Exception:
        """What a refusal means: a missing flag, another model, a prompt that is too long."""
        url, flag = self.client.address.url, way.flag
        if flag and flag in str(error):
            return FlagError(f"{url} takes no embeddings: start it with {flag}")
        if "hidden" in str(error):
            return ServerError(f"{url} serves another model than {self.model.preset.name}: {error}")
        if TOO_LONG.search(str(error)):
            longer = CONTEXTS[self.server.engine]
            return RefusedError(f"{error}: keep less, or give it a longer context ({longer})")
        return error
