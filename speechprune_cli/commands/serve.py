"""`speechprune serve`: answer over HTTP, as OpenAI's chat completions."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from speechprune_cli import options
from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.extras import need
from speechprune_cli.methods import defaults_of

if TYPE_CHECKING:
    from speechprune_cli.output import Output
    from speechprune_cli.serving.running import Door

PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


@options.grouped
def serve(
    *,
    model: options.ModelOptions,
    pruning: options.PruningOptions,
    serving: options.ServingOptions,
    reading: options.ServerOptions,
    output: options.OutputOptions,
) -> None:
    """Answer over HTTP, as OpenAI's chat completions with input_audio.

    The model is loaded once, a recording encoded once. With --server, prompts are read
    there. Ctrl-C ends it when what is in work is done.
    """
    import asyncio

    for package in PACKAGES:
        need(package, "speechprune serve", "serve")
    out, key, server = output.open(), serving.key, reading.url
    pruning.spec(defaults_of(model.preset)).check(model.preset)
    with ExitStack() as held:
        from speechprune_cli.serving.answering import Answering
        from speechprune_cli.serving.pruning import Pruning
        from speechprune_cli.serving.request import Served
        from speechprune_cli.serving.running import Door, Serving
        from speechprune_cli.serving.sockets import address

        listening = held.enter_context(address(serving.host, serving.port))
        doors = [Door(listening, key, serving.hosts), *own_doors(out, model, held)]
        session = model.load(out, server)
        name = session.model.preset.name
        served = Served(name, Pruning(**pruning.told), serving.max_new_tokens, serving.limits)
        running = Serving(
            Answering(session, serving.limits),
            served,
            tuple(doors),
            out.beginning,
            out.warning,
            threads=session.reader.at_once if session.reader else 1,
        )
        url = f"http://{serving.shown_host}:{listening.getsockname()[1]}/v1"
        asyncio.run(running.run(lambda: announce(out, name, url)))


def own_doors(out: Output, model: options.ModelOptions, held: ExitStack) -> list[Door]:
    """The socket of `--server local`; none, with a warning, where there cannot be one."""
    from speechprune_cli.serving.running import Door
    from speechprune_cli.serving.sockets import own_socket, socket_path

    try:
        return [Door(held.enter_context(own_socket(socket_path(model.preset, model.identity))))]
    except SpeechPruneError as error:
        out.warning(f"{error}; --server local will not find this one")
        return []


def announce(out: Output, name: str, url: str) -> None:
    """Say where the server listens, once it does."""
    out.record({"model": name, "url": url})
    out.text(f"{url}\n")
    out.beginning(f"{name} answers there; Ctrl-C ends it")
