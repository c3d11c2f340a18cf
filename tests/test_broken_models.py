"""Model folders and names of models that are not as they should be: exit code 4, one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import soundfile
from conftest import make_audio

from speechprune_cli.errors import ModelError
from speechprune_cli.main import main
from speechprune_cli.pipeline import load

QUESTION = "When is the report due?"
INDEX = "model.safetensors.index.json"
SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json")
DEEP = "[" * 100_000


def changed(name, **changes):
    """That file with other values."""
    return lambda folder: folder.joinpath(name).write_text(
        json.dumps({**json.loads((folder / name).read_text()), **changes})
    )


def written(name, text):
    return lambda folder: folder.joinpath(name).write_bytes(
        text if isinstance(text, bytes) else text.encode()
    )


def removed(*names):
    return lambda folder: [folder.joinpath(name).unlink() for name in names]


def decoder(**changes):
    """Other numbers of the language model."""

    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        config["text_config"] |= changes
        (folder / "config.json").write_text(json.dumps(config))

    return change


FAULTS = {
    "a word too many": changed("tokenizer_config.json", **{"pad_token": " "}),
    **{
        f"index {content}": written(INDEX, json.dumps(content))
        for content in ({"weight_map": []}, {"weight_map": {"a": 5}}, {"weight_map": None}, {}, [])
    },
    **{
        f"{name} {text[:5]!r}": written(name, text)
        for name in SETTINGS
        for text in ("[]", "{{", "5", b"\xff\xfe\x00", DEEP)
    },
    "no template": removed("chat_template.jinja"),
    "template syntax": written("chat_template.jinja", "{% if %}"),
    "template error": written("chat_template.jinja", "{{ foo.bar }}"),
    "template bytes": written("chat_template.jinja", b"\xff\xfe\x00"),
    "template without audio": written("chat_template.jinja", "hello"),
    "no tokenizer": removed("tokenizer.json", "tokenizer_config.json"),
    "no tokenizer.json": removed("tokenizer.json"),
    "tokenizer {}": written("tokenizer.json", "{}"),
    "tokenizer padding": changed("tokenizer.json", padding=0.5),
    "padding side": changed("preprocessor_config.json", padding_side=False),
    "no extractor": removed("preprocessor_config.json"),
    "text_config": changed("config.json", text_config="x"),
    "audio_config": changed("config.json", audio_config=[]),
    "no heads": decoder(num_attention_heads=0),
    "no layers": decoder(num_hidden_layers=-2),
    "heads in words": decoder(num_attention_heads="four"),
    "empty weights": written("model.safetensors", b""),
    "cut weights": lambda folder: os.truncate(folder / "model.safetensors", 5000),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_folder_is_an_error_in_one_line(fault, tiny_model_folder, tmp_path, capfd):
    folder, recording = tmp_path / "model", tmp_path / "a.wav"
    shutil.copytree(tiny_model_folder, folder)
    FAULTS[fault](folder)
    soundfile.write(recording, make_audio(1.0).samples, 16000)
    code = main(["ask", str(recording), QUESTION, "--model", str(folder), "--no-cache"])
    out, err = capfd.readouterr()
    assert (code, out) == (4, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert str(folder) in err


@pytest.mark.parametrize("choices", [(), ("in the due time", "never")])
@pytest.mark.parametrize("kind", ["tiny_ultravox_folder", "tiny_granite_folder"])
def test_a_tokenizer_with_more_words_than_the_model(kind, choices, request, tmp_path):
    folder = request.getfixturevalue(kind)
    shutil.copytree(folder.parent, tmp_path / "models")
    folder = tmp_path / "models" / folder.name
    told = json.loads((folder / "tokenizer.json").read_text())
    token = {"id": 294, "content": "due", "special": False, "lstrip": False, "rstrip": False}
    told["added_tokens"].append({**token, "normalized": False, "single_word": False})
    (folder / "tokenizer.json").write_text(json.dumps(told))
    session = load(str(folder), device="cpu", cache=False)
    session.check("When?", ("this", "that"))
    with pytest.raises(ModelError, match="its tokenizer makes token 294, and it has 294 word"):
        session.check("When?" if choices else QUESTION, choices)


@pytest.mark.parametrize(
    "kind",
    [
        "tiny_model_folder",  # whose class in transformers has a template of its own
        "tiny_gemma4_folder",
        "tiny_glm_asr_folder",
        "tiny_ultravox_folder",
    ],
)
def test_a_missing_chat_template_says_where_to_get_it(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    shutil.copytree(folder.parent, tmp_path / "models")
    folder = tmp_path / "models" / folder.name
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"chat_template\.jinja is missing, get it from"):
        load(str(folder), device="cpu", cache=False)


def test_qwen2_audio_itself_comes_without_a_template(tiny_qwen2_folder, tmp_path):
    """Its own is that of the class."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_qwen2_folder, folder)
    expected = load(str(folder), cache=False).model.prompt_ids(QUESTION)
    (folder / "chat_template.jinja").unlink()
    assert load(str(folder), cache=False).model.prompt_ids(QUESTION) == expected


@pytest.mark.parametrize("name", ["x" * 500, f"/{'x' * 500}", f"a/{'x' * 500}", "~nosuchuser/x"])
def test_names_that_no_model_can_have(name, tmp_path, capfd):
    recording = tmp_path / "a.wav"
    soundfile.write(recording, make_audio(1.0).samples, 16000)
    assert main(["ask", str(recording), QUESTION, "--model", name]) == 4
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"HTTPS_PROXY": "foo://x"},
        {"HF_ENDPOINT": "not-a-url"},
        {"HF_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_a_network_that_cannot_work(settings, tmp_path):
    recording = tmp_path / "a.wav"
    soundfile.write(recording, make_audio(1.0).samples, 16000)
    done = subprocess.run(
        [sys.executable, "-m", "speechprune_cli", "ask", recording, QUESTION, "-m", "org/model"],
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
