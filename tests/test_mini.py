"""`mini` itself, fetched from the package index and asked through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from speechprune_cli.audio import write_audio
from speechprune_cli.config import PACKAGE
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main
from speechprune_cli.pipeline import NO_WORDS

pytestmark = pytest.mark.slow
SHARED = Path(__file__).parents[2] / "shared" / "speech"
EXAMPLE = str(PACKAGE / "examples" / "meeting.ogg")
OPTIONS = ["harbor steel", "north coast bank", "the city library", "blue river foods"]


@pytest.fixture
def ask(mini, capfd, monkeypatch):
    """Run `speechprune ask -m mini`: stdout and stderr, once it has succeeded."""
    monkeypatch.delenv("SPEECHPRUNE_DTYPE")

    def run(*arguments):
        code = main(["ask", *map(str, arguments), "-m", mini])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out, err

    return run


def test_the_example_is_answered(ask):
    out, err = ask(EXAMPLE, "Where did Daniel get a job?")
    assert "steel" in out.lower()  # Whisper hears Harba Steel
    assert err == ""


def test_options_are_chosen_and_passages_are_told(ask):
    choices = [part for option in OPTIONS for part in ("--choice", option)]
    question = "Where did Daniel get a job?"
    found = json.loads(ask(EXAMPLE, question, *choices, "--keep", "20%", "--json")[0])
    assert found["answer"] == "harbor steel"
    assert found["language"] == "en"
    assert any("steel" in each["text"].lower() for each in found["passages"])
    assert found["seconds"]["encode_cached"] or found["seconds"]["encode"] > 0
    again = json.loads(ask(EXAMPLE, question, *choices, "--keep", "20%", "--json")[0])
    assert again["seconds"]["encode_cached"]
    assert again["probabilities"] == found["probabilities"]


def test_a_transcript_that_was_written_is_read(ask, tmp_path):
    for name in ("said.srt", "said.vtt", "said.json"):
        ask(EXAMPLE, "Who got a job?", "--transcript", tmp_path / name)
        out, _ = ask(EXAMPLE, "Where did Daniel get a job?", "--from-transcript", tmp_path / name)
        assert "steel" in out.lower()


def test_of_silence_nothing_is_made_up(ask, tmp_path):
    sound = tmp_path / "noise.wav"
    noise = np.random.default_rng(0).normal(0, 0.01, 20 * SAMPLE_RATE).astype(np.float32)
    write_audio(sound, noise, SAMPLE_RATE)
    out, err = ask(sound, "What was decided?")
    assert out == f"{NO_WORDS}\n"
    assert "no words were recognised in it" in err
    assert "\n" not in err.strip()


@pytest.mark.skipif(not SHARED.is_dir(), reason="recordings of people are not here")
def test_a_crowd_outdoors_is_understood(ask):
    speech = SHARED / "long" / "jfk_rice_1962.flac"
    out, _ = ask(speech, "Where do we choose to go?", "--show", "--keep", "60")
    answer, passages = out.split("\n", 1)
    assert "moon" in answer.lower()
    assert "moon" in passages.lower()
