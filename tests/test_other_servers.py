"""A server that is not vLLM, which somebody has started: an Ollama, or llama.cpp's `llama-server`.

    SPEECHPRUNE_TEST_SERVER=http://127.0.0.1:11434#reader python -m pytest -m slow FILE

It serves `mini`'s reader; what SPEECHPRUNE_TEST_OTHER names serves another model.
"""

from __future__ import annotations

import os

import pytest

from speechprune_cli.config import PACKAGE
from speechprune_cli.main import main

pytestmark = pytest.mark.slow

EXAMPLES = PACKAGE / "examples"
ASKED = [str(EXAMPLES / "meeting.ogg"), (EXAMPLES / "meeting.question").read_text().strip()]
OPTIONS = ["a bakery", "a steel works", "a school"]


def named(variable: str) -> str:
    """An address. Skips where there is none."""
    if not (address := os.environ.get(variable)):
        pytest.skip(f"{variable} names no server")
    return address


@pytest.fixture(scope="module")
def server() -> str:
    return named("SPEECHPRUNE_TEST_SERVER")


@pytest.fixture(scope="module")
def other() -> str:
    return named("SPEECHPRUNE_TEST_OTHER")


@pytest.mark.parametrize("choices", [[], OPTIONS], ids=["freely", "from options"])
def test_it_answers_as_this_process_does(server, mini, capfd, choices):
    given = [part for choice in choices for part in ("--choice", choice)]
    found = []
    for more in ([], ["--server", server]):
        assert main(["ask", *ASKED, *given, "-m", mini, *more]) == 0
        found.append(capfd.readouterr().out)
    assert found[0] == found[1] != ""


def test_another_model_is_refused(other, mini, capfd):
    assert main(["ask", *ASKED, "-m", mini, "--server", other]) == 6
    out, err = capfd.readouterr()
    assert out == ""
    assert "it serves other weights" in err.splitlines()[-1]
