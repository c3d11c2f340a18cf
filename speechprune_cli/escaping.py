"""Text of people and of file systems, as terminals, files and JSON can hold it."""

from __future__ import annotations

import json
import re
from typing import Any

UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
LONE = re.compile("[\ud800-\udfff]")
"""Bytes of a file name that are no UTF-8 are such halves of a character in Python."""
LONGEST, LEFT_OUT = 1200, " ... "  # characters of a line


def printable(text: str) -> str:
    """With escapes, `\\x1b`, for what would steer a terminal or is no UTF-8."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def line_of(message: str) -> str:
    """Printable, and no page where it says what a file holds."""
    shown, half = printable(message), (LONGEST - len(LEFT_OUT)) // 2
    return shown if len(shown) <= LONGEST else f"{shown[:half]}{LEFT_OUT}{shown[-half:]}"


def json_text(content: Any, **layout: Any) -> str:
    """JSON that any file in UTF-8 can hold, and that gives back the same text.

    `layout` is that of `json.dumps`. NaN and infinity are no JSON: ValueError.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, **layout)
    return LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
