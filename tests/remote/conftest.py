"""Models here, and servers of them: real ones around real models (`model_server.py`)."""

from __future__ import annotations

import pytest
from model_server import ModelServer
from tiny_models import make_tiny_model

from speechprune_cli import remote
from speechprune_cli.backends import load_backend
from speechprune_cli.config import resolve_model
from speechprune_cli.pipeline import Session, load


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """No test waits as long as people would."""
    monkeypatch.setattr("speechprune_cli.remote.http.PAUSES", (0.0, 0.0))


FOLDERS = {
    "audio_embeds": "tiny_qwen2_folder",
    "prompt_embeds": "tiny_music_flamingo_folder",
    "token ids": "tiny_transcriber",
}
"""A model for each way in which prompts go to vLLM."""


class Made(dict):
    """What is made when it is first wanted."""

    def __init__(self, make):
        self.make = make

    def __missing__(self, name):
        self[name] = self.make(name)
        return self[name]


@pytest.fixture(scope="module")
def folders(request, imagining):
    return Made(lambda name: request.getfixturevalue(FOLDERS[name]))


@pytest.fixture(scope="module")
def wholes(folders):
    """The models in this process."""
    return Made(lambda name: load(str(folders[name]), cache=False))


@pytest.fixture(scope="module")
def bares(folders):
    """The models without their decoders."""
    return Made(lambda name: load_backend(resolve_model(str(folders[name])), decoder=False))


@pytest.fixture
def whole(wholes):
    """The one whose audio goes as embeddings."""
    return wholes["audio_embeds"]


@pytest.fixture
def server(whole):
    """That serves it."""
    found = ModelServer(whole.model)
    yield found
    found.close()


@pytest.fixture
def joined(bares, wholes):
    """What puts a session together whose prompts a server reads, as `load` does."""

    def make(name, url):
        return Session(
            bares[name], None, remote.connect(url, bares[name], lambda: wholes[name].model)
        )

    return make


@pytest.fixture
def connect(joined, server):
    """The one whose audio goes as embeddings, to its server."""
    return lambda: joined("audio_embeds", server.url)


@pytest.fixture
def served(connect, server):
    """The same, with nothing asked yet."""
    found = connect()
    server.requests.clear()
    return found


@pytest.fixture
def other(wholes, tmp_path):
    """A model of the same shape with other weights."""
    folder = make_tiny_model(tmp_path / "other", "qwen2", initializer_range=0.4)
    return load(str(folder), cache=False)
