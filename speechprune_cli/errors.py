"""What can go wrong, and the exit code that says so (0 is success, 130 an interrupt)."""

from collections.abc import Iterable


class SpeechPruneError(Exception):
    """Failed or only partly done. The message is one line: what is wrong, where, what to do."""

    exit_code = 1


class UsageError(SpeechPruneError):
    """A wrong option, setting, preset or configuration."""

    exit_code = 2


class AudioError(SpeechPruneError):
    """A recording that is missing, unreadable or holds no sound."""

    exit_code = 3


class TooLongError(AudioError):
    """A recording that is longer than is allowed."""


class ModelError(SpeechPruneError):
    """A model that is missing, gated, offline or refused."""

    exit_code = 4


class ServerError(ModelError):
    """A server that cannot be reached, or that answers otherwise than its model would."""

    exit_code = 6


class NumericError(SpeechPruneError):
    """A model that computed NaN or infinity: of one recording or question, or of all."""

    exit_code = 4


class OutOfMemoryError(SpeechPruneError):
    """The device ran out of memory."""

    exit_code = 5


def one_line(error: BaseException) -> str:
    """A library's message, cut to a line that fits on a terminal."""
    return " ".join(str(error).split())[:200]


def nearest(name: str, known: Iterable[str]) -> str:
    """A question, to stand behind a name that is not known; empty where none is like it."""
    from difflib import get_close_matches

    found = get_close_matches(name.lower(), known, 1)
    return f" (do you mean {found[0]}?)" if found else ""
