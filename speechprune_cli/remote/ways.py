"""How a prompt goes to a server: as embeddings, as token ids, or as text.

A way makes the body of a request, and can put more of the answer behind the prompt, so that what
follows it is told: options are scored like that, token by token.
"""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from speechprune_cli.backends.base import AUDIO_EMBEDS, PROMPT_EMBEDS, TOKEN_IDS
from speechprune_cli.errors import ServerError, UsageError
from speechprune_cli.remote.server import LLAMA_CPP, VLLM, Server

if TYPE_CHECKING:
    from torch import Tensor

    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.flow import Prompt

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
Body = dict[str, Any]


@dataclass(frozen=True)
class Way(ABC):
    """One of them, for a model. Its body names no model and no settings."""

    model: SpeechLM
    path: ClassVar[str]
    flag: ClassVar[str] = ""  # without which vLLM refuses it
    stepwise: ClassVar[bool] = True  # whether more may be put behind a prompt

    @abstractmethod
    def body(self, prompt: Prompt, said: Sequence[int] = ()) -> Body:
        """Of a prompt, and of an answer that begins with the tokens `said`."""

    def read(self, prompt: Prompt, said: Sequence[int], ids: Sequence[int]) -> bool:
        """Whether the prompt that a server says it read, in token ids, is the right one."""
        return True

    def least(self, prompt: Prompt) -> int:
        """Tokens that a server has to read, where it might leave some of them out."""
        return 0


class PromptEmbeds(Way):
    """All embeddings, `[n, D]`: the server's tokenizer and chat template are not asked."""

    path = COMPLETIONS
    flag = "--enable-prompt-embeds"

    def body(self, prompt: Prompt, said: Sequence[int] = ()) -> Body:
        import torch

        embeds = prompt.inputs_embeds[0]
        if said:
            embeds = torch.cat([embeds, self.model.embed(said)])
        return {"prompt_embeds": encoded(embeds)}


class AudioEmbeds(Way):
    """Embeddings `[k, D]` of the audio; the server puts its own chat template around them."""

    path = CHAT
    flag = "--enable-mm-embeds"

    def body(self, prompt: Prompt, said: Sequence[int] = ()) -> Body:
        audio = {"type": "audio_embeds", "audio_embeds": encoded(prompt.audio)}
        asked = {"type": "text", "text": prompt.asked}
        messages: list[Body] = [{"role": "user", "content": [audio, asked]}]
        if not said:
            return {"messages": messages}
        messages.append({"role": "assistant", "content": self.model.text_of(said)})
        return {
            "messages": messages,
            "add_generation_prompt": False,
            "continue_final_message": True,
        }

    def read(self, prompt: Prompt, said: Sequence[int], ids: Sequence[int]) -> bool:
        before, after = list(prompt.before), [*prompt.after, *said]
        same = ids[: len(before)] == before and ids[len(ids) - len(after) :] == after
        return same and len(ids) == len(before) + prompt.audio_tokens + len(after)


class TokenIds(Way):
    """Tokens of text alone."""

    path = COMPLETIONS

    def body(self, prompt: Prompt, said: Sequence[int] = ()) -> Body:
        return {"prompt": [*prompt.before, *words(prompt), *prompt.after, *said]}

    def least(self, prompt: Prompt) -> int:
        return prompt.text_tokens + prompt.audio_tokens


class PlainText(Way):
    """Letters: tokenizer and chat template are the server's."""

    path = CHAT
    stepwise = False

    def body(self, prompt: Prompt, said: Sequence[int] = ()) -> Body:
        return {"messages": [{"role": "user", "content": self.text(prompt)}]}

    def least(self, prompt: Prompt) -> int:
        return len(self.model.text_ids(self.text(prompt)))

    def text(self, prompt: Prompt) -> str:
        """What a user says. Raises UsageError where a server would read markup in it."""
        reader: Any = self.model
        text = str(reader.chat_text(self.model.text_of(words(prompt)), prompt.asked))
        plain, marked = (
            each.encode(text, add_special_tokens=False).tokens
            for each in (reader.chat.words, reader.chat.markup)
        )
        if plain != marked:
            found = ", ".join(sorted(set(marked) - set(plain)))
            raise UsageError(
                f"the question or the recording says {found}, which a server that is sent text may "
                "read as markup: leave it out, or use vLLM or llama.cpp"
            )
        return text


WAYS: dict[str, Callable[..., Way]] = {
    PROMPT_EMBEDS: PromptEmbeds,
    AUDIO_EMBEDS: AudioEmbeds,
    TOKEN_IDS: TokenIds,
}


def way_of(model: SpeechLM, server: Server) -> Way:
    """The way that fits both. Raises ServerError where there is none."""
    kind = WAYS[model.served]
    if server.engine == VLLM:
        return kind(model)
    if model.served != TOKEN_IDS:
        raise ServerError(
            f"{server.name} takes no embeddings: {model.preset.name} hears by itself and needs "
            "vLLM, a model that reads transcripts (as mini) any server"
        )
    return TokenIds(model) if server.engine == LLAMA_CPP else PlainText(model)


def reason(way: Way, server: Server) -> str:
    """Why it is that one, for people."""
    family = way.model.family
    return {
        PromptEmbeds: f"prompt_embeds: vLLM is not known to take audio alone for {family}",
        AudioEmbeds: f"audio_embeds: vLLM's class for {family} takes them",
        TokenIds: f"token ids: a transcript is text, and {server.engine} takes its tokens",
        PlainText: "plain text: its tokenizer and its chat template are the server's own",
    }[type(way)]


def words(prompt: Prompt) -> list[int]:
    """Ids of retained words. Raises UsageError where a method has averaged some."""
    if prompt.audio_ids is None:
        raise UsageError("this method averages tokens, which no longer are words: choose another")
    return prompt.audio_ids.tolist()


def encoded(embeds: Tensor) -> str:
    """A tensor as vLLM takes it, base64 of torch's own format."""
    import torch

    file = io.BytesIO()
    torch.save(embeds.detach().cpu().clone(), file)  # of a view, all would be saved
    return base64.b64encode(file.getbuffer()).decode()
