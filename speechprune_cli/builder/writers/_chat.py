"""A language model to talk to: behind an OpenAI-compatible endpoint, or loaded here."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Protocol

from speechprune_cli.errors import ModelError, UsageError, one_line

KEY_VARIABLE = "OPENAI_API_KEY"
PAUSES = (1.0, 3.0, 9.0)  # seconds before an endpoint that is busy or stumbles is asked once more
TIMEOUT = 300
MOST_TOKENS = 4096
MOST_BYTES = 1 << 24


class StumbleError(ModelError):
    """Worth another try."""


class Chat(Protocol):
    """Anything that answers a conversation."""

    def ask(self, messages: list[dict[str, str]], *, seed: int, json_only: bool) -> str:
        """The answer's text. Raises ModelError where there is none to be had."""


class Endpoint:
    """`<url>/chat/completions`, as OpenAI, vLLM, llama.cpp and Ollama serve it."""

    def __init__(self, url: str, model: str) -> None:
        if not url.startswith(("http://", "https://")):
            example = "http://localhost:8000/v1"
            raise UsageError(f"--set endpoint={url}: give an address such as {example}")
        self.url, self.model = f"{url.rstrip('/')}/chat/completions", model

    def ask(self, messages: list[dict[str, str]], *, seed: int, json_only: bool) -> str:
        """Tries again where the server is busy or stumbles, gives up where it refuses."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "seed": seed,
            "temperature": 0.9 if json_only else 0.0,
            "max_tokens": MOST_TOKENS if json_only else 8,
        }
        if json_only:
            body["response_format"] = {"type": "json_object"}
        answer = self._post(json.dumps(body).encode())
        try:
            return str(json.loads(answer)["choices"][0]["message"]["content"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            shown = answer[:60].decode(errors="replace")
            raise ModelError(f"{self.url} is no chat endpoint: it says {shown!r}") from error

    def _post(self, body: bytes) -> bytes:
        for pause in PAUSES:
            try:
                return self._post_once(body)
            except StumbleError:
                time.sleep(pause)
        return self._post_once(body)

    def _post_once(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310 - http(s) only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                return bytes(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            said = error.read(200).decode(errors="replace")
            hint = f" (is {KEY_VARIABLE} right?)" if error.code in (401, 403) else ""
            kind = StumbleError if error.code >= 500 or error.code == 429 else ModelError
            raise kind(f"{self.url}: HTTP {error.code} {' '.join(said.split())}{hint}") from error
        except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = getattr(error, "reason", error)
            raise StumbleError(f"{self.url} cannot be reached: {reason}") from error


class Local:
    """A causal language model of transformers', from a folder or the Hub; safetensors only."""

    def __init__(self, name: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            self.model: Any = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"--set model={name}: no language model: {one_line(error)}") from error

    def ask(self, messages: list[dict[str, str]], *, seed: int, json_only: bool) -> str:
        """Sampled where a dialogue is wanted, greedy where a letter is."""
        import torch

        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        else:
            text = "".join(f"{message['content']}\n\n" for message in messages)
        inputs = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        torch.manual_seed(seed)
        with torch.inference_mode():
            tokens = self.model.generate(
                inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=json_only,
                max_new_tokens=MOST_TOKENS if json_only else 8,
            )
        said = tokens[0][inputs["input_ids"].shape[1] :]
        return str(self.tokenizer.decode(said, skip_special_tokens=True))
