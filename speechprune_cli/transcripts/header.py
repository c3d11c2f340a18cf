"""What a CTranslate2 file says of a Whisper before its weights are read: names and shapes."""

from __future__ import annotations

import struct
from io import BufferedReader
from pathlib import Path

from speechprune_cli.errors import ModelError

Shapes = dict[str, tuple[int, ...]]
VERSIONS = (5, 6)  # of the file format; both are laid out alike


def read_shapes(path: Path) -> Shapes:
    """Shapes of all tensors in a `model.bin`. Raises ModelError for anything but a Whisper's."""
    try:
        with path.open("rb") as file:
            version, kind = _number(file, "I"), _text(file)
            if version not in VERSIONS or kind != "WhisperSpec":
                raise ModelError(f"{path} is no Whisper in CTranslate2's format")
            _number(file, "I")  # revision of the specification
            return dict(_tensor(file) for _ in range(_number(file, "I")))
    except (struct.error, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is no Whisper in CTranslate2's format, or cut short") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _tensor(file: BufferedReader) -> tuple[str, tuple[int, ...]]:
    name = _text(file)
    shape = tuple(_number(file, "I") for _ in range(_number(file, "B")))
    _number(file, "B")  # type of its values
    file.seek(_number(file, "I"), 1)
    return name, shape


def _number(file: BufferedReader, code: str) -> int:
    found: int = struct.unpack(f"<{code}", file.read(struct.calcsize(code)))[0]
    return found


def _text(file: BufferedReader) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()
