"""The command line: the app, its subcommands, and one exit code for each kind of failure."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from speechprune_cli import __version__
from speechprune_cli.commands.ask import ask
from speechprune_cli.commands.build import build
from speechprune_cli.commands.eval import evaluate
from speechprune_cli.commands.models import models
from speechprune_cli.commands.profile import profile
from speechprune_cli.commands.prune import prune
from speechprune_cli.commands.report import report
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.options import ENVIRONMENT

INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

app = typer.Typer(
    help="Ask questions about long recordings: a Speech LLM reads the tokens that matter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=ENVIRONMENT)(ask)
app.command(epilog=ENVIRONMENT)(prune)
app.command("eval", epilog=ENVIRONMENT)(evaluate)
app.command(epilog=ENVIRONMENT)(profile)
app.command()(build)
app.command()(report)
app.command()(models)


def print_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        print(f"speechprune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=print_version,
            is_eager=True,
            metavar="",
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (see `errors.py`; 130 when interrupted)."""
    prepare_streams()
    try:
        code = app(args=arguments, prog_name="speechprune", standalone_mode=False) or 0
        sys.stdout.flush()
    except SpeechPruneError as error:
        return fail(error)
    except typer.TyperException as error:
        message = error.format_message().replace("Value error, ", "")
        return fail(UsageError(message)) if message else UsageError.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SpeechPruneError.exit_code
    if code == INTERRUPTED and sys.stderr.isatty():
        print(file=sys.stderr)
    return code


def prepare_streams() -> None:
    """Let libraries be quiet, warnings be one line, and no character be unprintable."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    logging.getLogger("speechprune").handlers = [handler]


def fail(error: SpeechPruneError) -> int:
    """Say in one line on stderr what went wrong, and return the exit code."""
    label = "error:"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        label = f"\033[1;31m{label}\033[0m"
    print(label, " ".join(str(error).split()), file=sys.stderr)
    return error.exit_code
