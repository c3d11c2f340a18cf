"""Files that are nearly right: bytes of headers, values of JSON, lines of text are changed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

HEADER = 4096  # bytes in which most changes are made
EXTREMES = (0, 1, -1, 2**7, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
FORMATS = tuple(order + kind for order in "<>" for kind in "BHIQ")
DEEP: list[Any] = []
for _ in range(300):
    DEEP = [DEEP]
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 2**31, 2**63, 10**30, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "x" * 5000, "\x00", "\x1b[31m", "\ud800", "\u202e", "ñ\u0301", "<|im_end|>"),
    *("../../etc/passwd", "/dev/zero", "a.wav", "nan", "1", "null", "[/b]", "{{ 1/0 }}", "%s%n"),
    *([], {}, [[]], [None], {"": None}, [1, "a", None], {"a": {"a": {}}}, DEEP),
)


def mutated(data: bytes, random: Random) -> bytes:
    """With one to four changes."""
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        data = random.choice(CHANGES)(data, random)
    return data


def _spot(data: bytes, random: Random) -> int:
    """Mostly within the header."""
    reach = min(len(data), HEADER) if random.random() < 0.7 else len(data)
    if random.random() < 0.3:
        reach = min(reach, 128)
    return random.randrange(reach + 1)


def _flipped(data: bytes, random: Random) -> bytes:
    at = _spot(data, random)
    return (
        data[:at]
        + bytes(each ^ 1 << random.randrange(8) for each in data[at : at + 1])
        + (data[at + 1 :])
    )


def _number(data: bytes, random: Random) -> bytes:
    at, kind = _spot(data, random), random.choice(FORMATS)
    size = struct.calcsize(kind)
    value = random.choice((*EXTREMES, random.getrandbits(64))) % 2 ** (8 * size)
    return data[:at] + struct.pack(kind, value) + data[at + size :]


def _nudged(data: bytes, random: Random) -> bytes:
    """A number that is off by little."""
    at, kind = _spot(data, random), random.choice(FORMATS)
    size = struct.calcsize(kind)
    if at + size > len(data):
        return data
    (value,) = struct.unpack(kind, data[at : at + size])
    value = (value + random.choice((-2, -1, 1, 2, 255))) % 2 ** (8 * size)
    return data[:at] + struct.pack(kind, value) + data[at + size :]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: _spot(data, random)]


def _without(data: bytes, random: Random) -> bytes:
    at = _spot(data, random)
    return data[:at] + data[at + random.choice((1, 2, 4, 16, 188, 1000)) :]


def _doubled(data: bytes, random: Random) -> bytes:
    at, size = _spot(data, random), random.choice((1, 4, 16, 188, 4096))
    return data[: at + size] + data[at:]


def _filled(data: bytes, random: Random) -> bytes:
    at, size = _spot(data, random), random.choice((4, 16, 64, 1000))
    piece = random.choice((bytes(size), b"\xff" * size, random.randbytes(size)))
    return data[:at] + piece[: len(data) - at] + data[at + size :]


def _inserted(data: bytes, random: Random) -> bytes:
    at = _spot(data, random)
    return data[:at] + random.randbytes(random.choice((1, 3, 64, 5000))) + data[at:]


def _exchanged(data: bytes, random: Random) -> bytes:
    """Two stretches have changed places."""
    a, b = sorted((_spot(data, random), random.randrange(len(data) + 1)))
    size = min(random.choice((4, 32, 512)), b - a)
    return (
        data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + (data[b + size :])
    )


CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_flipped, _flipped, _number, _number, _number, _nudged, _cut, _without),
    *(_doubled, _filled, _inserted, _exchanged),
)


def mutated_text(data: bytes, random: Random) -> bytes:
    """Of a text file: its JSON, its lines or its bytes."""
    chance = random.random()
    if chance < 0.6 and data[:1] in (b"{", b"["):
        return _json_changed(data, random)
    if chance < 0.6 and data[:5] == b"name:":
        changed = _other(yaml.safe_load(data), random)
        return yaml.safe_dump(changed, sort_keys=False).encode()
    if chance < 0.8:
        return _lines_changed(data, random)
    return mutated(data, random)


def _json_changed(data: bytes, random: Random) -> bytes:
    """One value, in one line where every line is JSON."""
    lines = [data] if data[:1] == b"[" or b"\n " in data else data.splitlines()
    number = random.randrange(len(lines))
    try:
        value = json.loads(lines[number])
    except ValueError:
        return mutated(data, random)
    for _ in range(random.choice((1, 1, 2))):
        value = _other(value, random)
    lines[number] = json.dumps(value).encode()
    return b"\n".join(lines) + b"\n"


def _other(value: Any, random: Random) -> Any:
    """The value with something in it replaced, removed or added."""
    deeper = random.random() < 0.95
    if isinstance(value, dict) and value and deeper:
        key, chance = random.choice(list(value)), random.random()
        if chance < 0.15:
            return {name: each for name, each in value.items() if name != key}
        if chance < 0.25:
            return {**value, random.choice(("x", "", key.upper())): random.choice(JUNK)}
        return {**value, key: _other(value[key], random)}
    if isinstance(value, list) and value and deeper:
        at = random.randrange(len(value))
        if random.random() < 0.3:
            return random.choice((value[:at], value + value[at:], value[:at] + value[at + 1 :]))
        return [*value[:at], _other(value[at], random), *value[at + 1 :]]
    return random.choice(JUNK)


def _lines_changed(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    junk = random.choice(JUNK)
    said = junk.encode("utf-8", "surrogatepass") if isinstance(junk, str) else b"%r" % (junk,)
    whole = random.choice((b"", b"---", b"\xff\xfe", b"\r", said, lines[at] * 50, lines[at][::-1]))
    key, colon, _ = lines[at].partition(b":")
    changed = random.choice((whole, key + colon + b" " + said, b"  " + lines[at]))
    return b"\n".join([*lines[:at], changed, *lines[at + random.choice((0, 1)) :]])
