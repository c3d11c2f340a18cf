"""Prompts that a server reads: encoding and pruning here, prefill and decoding there.

`address.py` is where it is and what may be asked of it at once, `http.py` one request, `server.py`
who it is, `ways.py` how a prompt goes there, `reader.py` what comes back, `probe.py` whether it is
the same model. How to start one: README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.remote.reader import RemoteReader


def connect(url: str, model: SpeechLM, load_whole: Callable[[], SpeechLM]) -> RemoteReader:
    """Who reads the prompts of `model` at `url`, once it is sure to be the same model.

    `load_whole` loads it with its decoder, for the probe's right answers, once per revision.
    Raises UsageError for an address that is none, and ServerError for a server that is away,
    refuses what is asked of it, or answers as another model would.
    """
    from speechprune_cli.remote.address import Address
    from speechprune_cli.remote.http import Client
    from speechprune_cli.remote.probe import check_answers
    from speechprune_cli.remote.reader import RemoteReader
    from speechprune_cli.remote.server import find_server
    from speechprune_cli.remote.ways import way_of

    client = Client(Address.parse(url))
    server = find_server(client, model.preset)
    reader = RemoteReader(model, client, server, way_of(model, server))
    reader.decisions = (*reader.decisions, check_answers(reader, load_whole))
    return reader
