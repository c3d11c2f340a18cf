"""The text side of a language model: its tokenizer and its chat template, with no transformers.

What people wrote or said is never read as markup: `<|im_end|>` in a question is seven tokens of
text, not the end of a turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from speechprune_cli.checkpoint import read_json
from speechprune_cli.errors import ModelError, one_line
from speechprune_cli.extras import need
from speechprune_cli.flow import PromptIds

GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")  # marks what training looks at
AUDIO = "\ue000"  # of the private use area: what stands for the recording in a template


class Chat:
    """The tokenizer and the template in a model folder. Raises ModelError where one is missing."""

    def __init__(self, folder: Path) -> None:
        for package in ("tokenizers", "jinja2"):
            need(package, "a text model", "mini")
        from tokenizers import Tokenizer

        self.folder, path = folder, folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{folder} has no tokenizer.json: save it with a fast tokenizer")
        self.told = read_json(folder / "tokenizer_config.json")
        self.template = self._template()
        self.opening, self.closing = self._render().split(AUDIO)
        try:
            # two of them, as a switch between uses would not be safe among threads
            self.markup, self.words = (Tokenizer.from_file(str(path)) for _ in range(2))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ModelError(f"{path}: no usable tokenizer: {one_line(error)}") from error
        self.words.encode_special_tokens = True

    def encode(self, text: str) -> Any:
        """`ids` and `offsets` of `text` alone, whatever markup it may resemble."""
        return self.words.encode(text, add_special_tokens=False)

    def ids(self, text: str) -> list[int]:
        """Tokens of `text` alone."""
        found: list[int] = self.encode(text).ids
        return found

    def text(self, ids: Sequence[int]) -> str:
        """What tokens say, special ones left out."""
        return self.markup.decode(list(ids), skip_special_tokens=True)

    def prompt(self, before: str, after: str, audio: str = "[transcript]") -> PromptIds:
        """A user's turn that says `before`, the recording and `after`; then the model's begins.

        `audio` stands for the recording where people read the prompt.
        """
        turn = (self.opening, self.closing)
        first, last = (self.markup.encode(part, add_special_tokens=False).ids for part in turn)
        text = f"{self.opening}{before}{audio}{after}{self.closing}"
        return PromptIds([*first, *self.ids(before)], [*self.ids(after), *last], text)

    def end_tokens(self) -> frozenset[int]:
        """Ids that end an answer. Raises ModelError where none is named."""
        generation = self.folder / "generation_config.json"
        told = read_json(generation) if generation.is_file() else {}
        ends = told.get("eos_token_id", read_json(self.folder / "config.json").get("eos_token_id"))
        if ends is None and (token := _token(self.told.get("eos_token"))):
            ends = self.markup.token_to_id(token)
        if ends is None:
            raise ModelError(f"{self.folder} names no end token (eos_token_id, eos_token)")
        return frozenset(ends if isinstance(ends, list) else [ends])

    def _template(self) -> str:
        path, told = self.folder / "chat_template.jinja", self.told.get("chat_template")
        if path.is_file():
            return path.read_text(encoding="utf-8")
        if isinstance(told, list):
            told = {each["name"]: each["template"] for each in told}.get("default")
        if not told:
            raise ModelError(
                f"{self.folder} has no chat template: chat_template.jinja is missing, get it from "
                "where the model comes from; a reader has to be a chat (instruct) model"
            )
        return str(told)

    def _render(self) -> str:
        """A conversation of one question, its text `AUDIO`."""
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals |= {"raise_exception": refuse, "strftime_now": datetime.now().strftime}
        environment.filters["tojson"] = json.dumps
        tokens = {name: _token(self.told.get(name)) for name in ("bos_token", "eos_token")}
        try:
            text = environment.from_string(GENERATION.sub("", self.template)).render(
                messages=[{"role": "user", "content": AUDIO}],
                add_generation_prompt=True,
                tools=None,
                documents=None,
                enable_thinking=False,  # Qwen3 would reason at length first
                **tokens,
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{self.folder}: chat template: {one_line(error)}") from error
        if text.count(AUDIO) != 1:
            raise ModelError(f"{self.folder}: its chat template does not say the question once")
        return text


def _token(told: Any) -> str:
    """A special token as tokenizers' configurations write it: a text, or an object."""
    return str(told.get("content", "") if isinstance(told, dict) else told or "")
