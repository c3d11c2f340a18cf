"""The embedded model: stock, small, and able to answer through the real command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprune_cli import Session, load, load_audio
from speechprune_cli.errors import UsageError

PACKAGE = Path(__file__).parents[1] / "speechprune_cli"
NANO = PACKAGE / "nano"
EXAMPLE = PACKAGE / "examples" / "meeting.ogg"
QUESTION = (PACKAGE / "examples" / "meeting.question").read_text().strip()
ANSWER = (PACKAGE / "examples" / "meeting.answer").read_text().strip()
HUMAN = Path(__file__).parents[2] / "shared" / "speech"


@pytest.fixture(scope="module")
def nano() -> Session:
    return load("nano", cache=False)


@pytest.fixture(scope="module")
def meeting(nano):
    return nano.encode(EXAMPLE)


def test_the_folder_is_small_and_holds_no_code_and_no_pickle():
    files = list(NANO.iterdir())
    assert sum(file.stat().st_size for file in files) < 60_000_000
    assert {file.suffix for file in files} <= {".json", ".jinja", ".md", ".safetensors"}


@pytest.mark.slow
def test_plain_transformers_gives_the_same_answer(nano, meeting):
    from transformers import Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

    model = Qwen2AudioForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32)
    processor = Qwen2AudioProcessor.from_pretrained(NANO)
    samples = load_audio(EXAMPLE).samples[: 16_000 * 20]
    content = [{"type": "audio", "audio_url": ""}, {"type": "text", "text": QUESTION}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    inputs = processor(text=prompt, audio=[samples], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=20)[0, inputs["input_ids"].shape[1] :]
    stock = processor.tokenizer.decode(out, skip_special_tokens=True).strip()
    audio = load_audio(EXAMPLE)
    short = type(audio)(samples, "short", "0" * 64, 16_000, 1, 20.0)
    ours = nano.ask(short, QUESTION, method="full", max_new_tokens=20)
    assert ours.answer.text == stock


def test_what_it_has_no_tokens_for_is_told(nano):
    """But not punctuation, and not letters in another case."""
    assert nano.unread("Is it £50, or 5 °C?", ["in the Red House – 🎉", "€60"]) == "£°🎉€"
    assert nano.unread(QUESTION) == ""
    with pytest.raises(UsageError, match="cannot tell '£50' from '€50'"):
        nano.check("How much?", ["£50", "€50"])


def test_the_shipped_answer_is_what_it_says(nano, meeting):
    selection = nano.prune(meeting, QUESTION)
    assert nano.answer(meeting, selection, QUESTION).text == ANSWER


def test_the_audio_reaches_the_model(nano, meeting):
    """Silence of the same length must change the likelihood of what was said."""
    audio = load_audio(EXAMPLE)
    silence = type(audio)(np.zeros_like(audio.samples), "s", "0" * 64, 16_000, 1, audio.seconds)
    tokens = nano.encode(silence)
    choices = (ANSWER, "apex software")
    heard, unheard = (
        nano.answer(t, nano.prune(t, QUESTION, method="full"), QUESTION, choices=choices)
        for t in (meeting, tokens)
    )
    assert heard.text == ANSWER
    assert heard.probabilities[ANSWER] > unheard.probabilities[ANSWER]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--verbose"]])
def test_a_pipe_gets_the_answer_alone_and_verbose_people_a_caution(tmp_path, options):
    command = [sys.executable, "-m", "speechprune_cli", "ask", str(EXAMPLE), QUESTION, *options]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "SPEECHPRUNE_CACHE_DIR": str(tmp_path / "cache"),
            "PYTHONPATH": str(PACKAGE.parent),
            "HOME": str(tmp_path),
        },
    )
    assert (done.returncode, done.stdout) == (0, ANSWER + "\n"), done.stderr
    assert ("often wrong" in done.stderr) == bool(options)


@pytest.mark.slow
@pytest.mark.skipif(not HUMAN.exists(), reason="human recordings are not shipped")
def test_a_human_recording_through_the_command_line(tmp_path):
    recording = HUMAN / "long" / "jfk_rice_1962.flac"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "speechprune_cli",
            "ask",
            "--no-cache",
            "--json",
            str(recording),
            "What is mentioned?",
            "--choice",
            "the moon",
            "--choice",
            "chicken soup",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    assert report["audio"]["encoded_seconds"] == pytest.approx(
        report["audio"]["source_seconds"], abs=1e-3
    )
    assert report["answer"] in report["choices"]
    assert report["pruning"]["kept"] == 150
    assert sum(report["timeline"]["kept"]) == 150
