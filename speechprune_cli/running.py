"""Runs an app of typer's: every failure is one line on stderr and an exit code (`errors.py`)."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Sequence

import typer

from speechprune_cli.errors import OutOfMemoryError, SpeechPruneError, UsageError, one_line
from speechprune_cli.escaping import line_of
from speechprune_cli.streams import prepare_streams

NO_ROOM = re.compile(r"failed to map segment|cannot allocate memory", re.I)
UNWRITABLE = (errno.EBADF, errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def run(app: typer.Typer, arguments: Sequence[str] | None, name: str) -> int:
    """Run one command line and return its exit code (see `errors.py`; 130 when interrupted)."""
    prepare_streams()
    quieten_libraries()
    try:
        code = app(args=arguments, prog_name=name, standalone_mode=False) or 0
        sys.stdout.flush()
    except SpeechPruneError as error:
        return fail(error)
    except typer.TyperException as error:
        message = error.format_message().replace("Value error, ", "")
        return fail(UsageError(message)) if message else UsageError.exit_code
    except OSError as error:
        return _refused(error)
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and not NO_ROOM.search(str(error)):
            raise
        return fail(OutOfMemoryError(f"too little memory is allowed or free: {one_line(error)}"))
    if code == 130 and sys.stderr.isatty():
        print(file=sys.stderr)
    return code


def _refused(error: OSError) -> int:
    """Exit code where the system refuses the result, or the folder that it was started in."""
    if error.filename is not None:  # which files name themselves
        raise error
    if error.errno == errno.ENOENT:
        return fail(UsageError("the folder that this was started in is gone: go to another"))
    if error.errno not in UNWRITABLE:
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return SpeechPruneError.exit_code
    return fail(SpeechPruneError(f"cannot write the result: {error.strerror}"))


def quieten_libraries() -> None:
    """Let libraries be quiet, and warnings be one line."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("speechprune").handlers = [_Lines()]


class _Lines(logging.Handler):
    """To stderr as it is at the moment: a progress bar gives way to what is printed there."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line: a warning, or a note where the command shows those."""
        label = "warning: " if record.levelno >= logging.WARNING else ""
        print(f"{label}{line_of(record.getMessage())}", file=sys.stderr)


def fail(error: SpeechPruneError) -> int:
    """Say in one line on stderr what went wrong, and return the exit code."""
    label = "error:"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        label = f"\033[1;31m{label}\033[0m"
    print(label, line_of(" ".join(str(error).split())), file=sys.stderr)
    return error.exit_code
