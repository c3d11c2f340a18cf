"""vLLM's classes for models that hear: the answers of this process, whichever way a prompt goes.

One that imports torchvision or torchaudio is skipped where vLLM's environment has none; an
environment with them is named by SPEECHPRUNE_VLLM.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest
import vllm_server
from asking import CHOICES, prompt_of, said
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

from speechprune_cli.errors import ServerError
from speechprune_cli.pipeline import Session, load
from speechprune_cli.remote.ways import PromptEmbeds, encoded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm", "_heads")]

PUBLISHED = ("--trust-remote-code", "--skip-mm-profiling")
"""Ultravox's processor is code; that of the tests can tell vLLM nothing about its tokens."""
MISTRAL = [f"--{each}=mistral" for each in ("tokenizer-mode", "config-format", "load-format")]


@pytest.fixture
def _heads(monkeypatch):
    """Decoders that vLLM can serve on a processor."""
    for name, value in vllm_server.HEADS.items():
        monkeypatch.setitem(TEXT, name, value)


def has(package: str) -> None:
    """Skips where vLLM's environment lacks it."""
    asked = [vllm_server.python(), "-c", f"import {package}"]
    if subprocess.run(asked, capture_output=True).returncode:
        pytest.skip(f"vLLM's environment has no {package} that works")


def same_answers(folder: Path, url: str, way: str) -> Session:
    """Of the whole and of a tenth, in one window and in several; the session that was served."""
    whole = load(str(folder), dtype="float32", cache=False)
    served = load(str(folder), dtype="float32", cache=False, server=url)
    assert any(f"as {way}" in decision for decision in served.decisions)
    for seconds in (20, 40):
        for keep in ("100%", "10%"):
            prompts = [prompt_of(each, seconds, keep=keep) for each in (whole, served)]
            ours = said(whole, prompts[0], 24)
            assert said(served, prompts[1], 24)[:3] == ours[:3]
            assert ours[1] > 1
    return served


def audio_alone(session: Session, server: vllm_server.Serving) -> list[int]:
    """HTTP status of both forms in which vLLM is sent embeddings of audio: bare, with a count."""
    prompt = prompt_of(session, 20)
    bare, found = encoded(prompt.audio), []
    for form in (bare, {"audio_embeds": bare, "audio_num_tokens": [len(prompt.audio)]}):
        part = {"type": "audio_embeds", "audio_embeds": form}
        text = {"type": "text", "text": prompt.asked}
        told = {"messages": [{"role": "user", "content": [part, text]}], "max_tokens": 1}
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as asked:
            kind = {"Content-Type": "application/json"}
            asked.request("POST", "/v1/chat/completions", json.dumps(told), kind)
            found.append(asked.getresponse().status)
    return found


def takes_no_audio(session: Session, server: vllm_server.Serving) -> None:
    """In neither form."""
    assert set(audio_alone(session, server)) <= {400, 500}


@pytest.mark.parametrize("make", [make_tiny_flamingo, make_tiny_glm_asr])
def test_some_take_embeddings_of_audio(tmp_path, make):
    """And their options' beginnings as embeddings of the whole prompt."""
    folder = make(tmp_path / "tiny")
    with vllm_server.serving(folder, *vllm_server.FLAGS, log=tmp_path / "log") as found:
        served = same_answers(folder, found.url, "audio_embeds")
        served.respond(prompt_of(served, choices=CHOICES), choices=CHOICES)
        assert isinstance(served.reader.behind, PromptEmbeds)
        assert 200 in audio_alone(served, found), "else those that are refused show nothing"


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
    with vllm_server.serving(folder, *vllm_server.FLAGS, log=tmp_path / "log") as found:
        takes_no_audio(same_answers(folder, found.url, "prompt_embeds"), found)


def test_voxtral_is_served_in_the_format_of_its_makers(tmp_path):
    folder = make_tiny_voxtral(tmp_path / "tiny")
    written = write_for_vllm(folder)
    flags = (*vllm_server.FLAGS, *MISTRAL)
    with vllm_server.serving(written, *flags, log=tmp_path / "log") as found:
        takes_no_audio(same_answers(folder, found.url, "prompt_embeds"), found)


@pytest.mark.parametrize(
    ("make", "reader"), [(make_tiny_ultravox, "text-tiny"), (make_tiny_diva, "llama-tiny")]
)
def test_a_text_model_may_be_served_alone(tmp_path, make, reader):
    """Where a model hears by parts that are here, vLLM needs no class for it."""
    folder = make(tmp_path / "tiny")
    served = tmp_path / reader
    with vllm_server.serving(served, "--enable-prompt-embeds", log=tmp_path / "log") as found:
        same_answers(folder, found.url, "prompt_embeds")


def test_an_adapter_is_a_model_of_its_own_to_a_server(tmp_path):
    """Without it, the answers would be others': refused."""
    has("torchaudio")
    folder = make_tiny_granite(tmp_path / "tiny")
    lora = ("--enable-lora", "--max-lora-rank", "64", "--lora-modules", f"speech={folder}")
    flags = ("--enable-prompt-embeds", *lora)
    with vllm_server.serving(folder, *flags, log=tmp_path / "log") as found:
        same_answers(folder, f"{found.url}#speech", "prompt_embeds")
        with pytest.raises(ServerError, match="other weights"):
            load(str(folder), dtype="float32", server=f"{found.url}#{folder}")


def test_ultravox_takes_no_embeddings_of_audio(tmp_path):
    """Though its class has a place for them. The model's processor is one that hears nothing."""
    folder = make_tiny_ultravox(tmp_path / "tiny")
    make_servable(folder)
    flags = (*vllm_server.FLAGS, *PUBLISHED)
    with vllm_server.serving(folder, *flags, log=tmp_path / "log") as found:
        takes_no_audio(same_answers(folder, found.url, "prompt_embeds"), found)
