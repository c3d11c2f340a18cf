"""The languages that Whisper knows."""

from __future__ import annotations

from speechprune_cli.errors import UsageError


def language_code(name: str) -> str:
    """`de` of `de`, `DE` or `German`. Raises UsageError, which lists the codes, for others."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    asked = name.strip().lower()
    if asked in LANGUAGES:
        return asked
    if asked not in TO_LANGUAGE_CODE:
        raise UsageError(f"Whisper knows no language '{name}': it knows {', '.join(LANGUAGES)}")
    return TO_LANGUAGE_CODE[asked]


def language_name(code: str) -> str:
    """`German` of `de`; the code itself where nobody knows it."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return LANGUAGES.get(code, code).capitalize()
