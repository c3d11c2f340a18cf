"""vLLM's classes for models that hear: the answers of this process, whichever way a prompt goes.

One that imports torchvision or torchaudio is skipped where vLLM's environment has none; an
environment with them is named by SPEECHPRUNE_VLLM.
"""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest
import vllm_server
from answering import HEADS, prompt_of, said
from tiny_diva import make_tiny_diva
from tiny_flamingo import make_tiny_flamingo
from tiny_glm_asr import make_tiny_glm_asr
from tiny_granite import make_tiny_granite, make_tiny_granite_plus
from tiny_models import TEXT
from tiny_qwen2_5_omni import make_tiny_qwen2_5_omni
from tiny_qwen3_asr import make_tiny_qwen3_asr
from tiny_qwen3_omni import make_tiny_qwen3_omni
from tiny_ultravox import make_servable, make_tiny_ultravox
from tiny_voxtral import make_tiny_voxtral, write_for_vllm

from speechprune_cli.backends.ultravox import Ultravox
from speechprune_cli.errors import ServerError
from speechprune_cli.pipeline import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm", "_heads")]

PUBLISHED = ("--trust-remote-code", "--skip-mm-profiling")  # as Ultravox's processor is code
MISTRAL = [f"--{each}=mistral" for each in ("tokenizer-mode", "config-format", "load-format")]


@pytest.fixture
def _heads(monkeypatch):
    """Decoders that vLLM can serve on a processor."""
    for name, value in HEADS.items():
        monkeypatch.setitem(TEXT, name, value)


def has(package: str) -> None:
    """Skips where vLLM's environment lacks it."""
    asked = [vllm_server.python(), "-c", f"import {package}"]
    if subprocess.run(asked, capture_output=True).returncode:
        pytest.skip(f"vLLM's environment has no {package} that works")


def same_answers(folder: Path, url: str, way: str) -> None:
    """Of the whole and of a tenth, in one window and in several."""
    whole = load(str(folder), dtype="float32", cache=False)
    served = load(str(folder), dtype="float32", cache=False, server=url)
    assert any(f"as {way}" in decision for decision in served.decisions)
    for seconds in (20, 40):
        for keep in ("100%", "10%"):
            prompts = [prompt_of(each, seconds, keep=keep) for each in (whole, served)]
            assert said(served, prompts[1]) == said(whole, prompts[0])


@pytest.mark.parametrize("make", [make_tiny_flamingo, make_tiny_glm_asr])
def test_some_take_embeddings_of_audio(tmp_path, make):
    folder = make(tmp_path / "tiny")
    with vllm_server.serving(folder, *vllm_server.FLAGS, log=tmp_path / "log") as found:
        same_answers(folder, found.url, "audio_embeds")


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (partial(make_tiny_flamingo, kind="MusicFlamingo"), None),
        (make_tiny_qwen3_asr, "torchvision"),
        (make_tiny_qwen2_5_omni, "torchvision"),
        (make_tiny_qwen3_omni, "torchvision"),
        (make_tiny_granite_plus, "torchaudio"),
    ],
)
def test_others_take_embeddings_of_the_whole_prompt(tmp_path, make, wanted):
    if wanted:
        has(wanted)
    folder = make(tmp_path / "tiny")
    with vllm_server.serving(folder, "--enable-prompt-embeds", log=tmp_path / "log") as found:
        same_answers(folder, found.url, "prompt_embeds")


def test_voxtral_is_served_in_the_format_of_its_makers(tmp_path):
    folder = make_tiny_voxtral(tmp_path / "tiny")
    flags = ("--enable-prompt-embeds", "--skip-mm-profiling", *MISTRAL)
    written = write_for_vllm(folder)
    with vllm_server.serving(written, *flags, log=tmp_path / "log") as found:
        same_answers(folder, found.url, "prompt_embeds")


@pytest.mark.parametrize(
    ("make", "reader"), [(make_tiny_ultravox, "text-tiny"), (make_tiny_diva, "llama-tiny")]
)
def test_a_text_model_may_be_served_alone(tmp_path, make, reader):
    """Where a model hears by parts that are here, vLLM needs no class for it."""
    folder = make(tmp_path / "tiny")
    with vllm_server.serving(tmp_path / reader, "--enable-prompt-embeds") as found:
        same_answers(folder, found.url, "prompt_embeds")


def test_an_adapter_is_a_model_of_its_own_to_a_server(tmp_path):
    """Without it, the answers would be others': refused."""
    has("torchaudio")
    folder = make_tiny_granite(tmp_path / "tiny")
    flags = ("--enable-prompt-embeds", "--enable-lora", "--lora-modules", f"speech={folder}")
    with vllm_server.serving(folder, *flags, log=tmp_path / "log") as found:
        same_answers(folder, f"{found.url}#speech", "prompt_embeds")
        with pytest.raises(ServerError, match="other weights"):
            load(str(folder), dtype="float32", server=f"{found.url}#{folder}")


def test_ultravox_takes_no_embeddings_of_audio(tmp_path, monkeypatch):
    """Though its class has a place for them: vLLM 0.32 fails on every such request."""
    folder = make_tiny_ultravox(tmp_path / "tiny")
    make_servable(folder)
    flags = (*vllm_server.FLAGS, *PUBLISHED)
    with vllm_server.serving(folder, *flags, log=tmp_path / "log") as found:
        same_answers(folder, found.url, "prompt_embeds")
        monkeypatch.setattr(Ultravox, "served", "audio_embeds")
        with pytest.raises(ServerError, match="500"):
            load(str(folder), dtype="float32", server=found.url)
