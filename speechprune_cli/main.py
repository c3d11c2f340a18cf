"""The command line: the app and its subcommands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from speechprune_cli.commands.ask import ask
from speechprune_cli.commands.build import build
from speechprune_cli.commands.eval import evaluate
from speechprune_cli.commands.models import app as models
from speechprune_cli.commands.profile import profile
from speechprune_cli.commands.prune import prune
from speechprune_cli.commands.report import report
from speechprune_cli.commands.serve import serve
from speechprune_cli.options import ENVIRONMENT
from speechprune_cli.running import run
from speechprune_cli.version import __version__

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
app.command(epilog=ENVIRONMENT)(serve)
app.command()(build)
app.command()(report)
app.add_typer(models, name="models")


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
    return run(app, arguments, "speechprune")
