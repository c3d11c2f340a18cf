"""Presets: what ships is valid, what is wrong is said in one line."""

from __future__ import annotations

import pytest

from speechprune_cli.config import list_presets, load_preset, read_preset, resolve_model
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.transcripts.languages import language_code


def test_every_shipped_preset_is_valid_and_named_like_its_file():
    assert {"nano", "qwen2-audio"} <= set(list_presets())
    for name in list_presets():
        assert load_preset(name).name == name


@pytest.mark.parametrize("name", list_presets())
def test_languages_are_told_as_whisper_names_them(name):
    known = load_preset(name).known_languages
    assert [language_code(each) for each in known] == list(known)
    assert len(set(known)) == len(known)


def test_sources():
    assert load_preset("nano").source == "package:nano"
    assert load_preset("qwen2-audio").source == "Qwen/Qwen2-Audio-7B-Instruct"


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"no preset 'nanoo'.*nano, .*qwen2-audio"):
        load_preset("nanoo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nsource: a/b\ncolour: red\n", "unknown key 'colour': the known ones are name,"),
        ("name: x\nsource: a/b\ndefaults: {rat: 1}\n", "unknown key 'defaults.rat'.* rate,"),
        ("name: x\n", "the key 'source' is missing"),
        ("name: x\nsource: a/b\ndefaults: {rate: often}\n", "rate is .often.: .*valid number"),
        ("name: x\nsource: a/b\ndefaults: {position: up}\n", "position is 'up': .*'repacked' or"),
        ("- a list\n", "it: "),
        ("name: [x\n", "not valid YAML"),
    ],
)
def test_a_wrong_preset_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        read_preset(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_resolve_model(tmp_path):
    assert resolve_model("nano").source == "package:nano"
    assert resolve_model(str(tmp_path)).source == str(tmp_path.resolve())
    assert resolve_model("some-org/some.model").source == "some-org/some.model"


def test_resolve_model_errors(tmp_path):
    with pytest.raises(
        UsageError, match=r"unknown model 'nanoo' \(do you mean nano\?\).*nano, .*qwen2-audio"
    ):
        resolve_model("nanoo")
    with pytest.raises(ModelError, match="no model folder"):
        resolve_model(str(tmp_path / "missing"))
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(ModelError, match=r"the folder that holds config.json"):
        resolve_model(str(file))


@pytest.mark.parametrize(
    ("name", "recogniser", "reader"),
    [
        ("small.en+Qwen/Qwen3-0.6B", "small.en", "Qwen/Qwen3-0.6B"),
        ("mini+org/model/file.gguf", "stored:whisper-base", "org/model/file.gguf"),
        ("HEARD+mini", "HEARD", "stored:qwen2.5-coder-1.5b-instruct"),
    ],
)
def test_a_recogniser_and_a_reader_are_paired(tmp_path, name, recogniser, reader):
    folder = tmp_path / "c++" / "whisper"
    folder.mkdir(parents=True)
    preset = resolve_model(name.replace("HEARD", str(folder)))
    assert preset.family == "transcript"
    assert preset.recogniser.source == recogniser.replace("HEARD", str(folder))
    assert preset.reader.source == reader
    assert preset.source == f"{preset.recogniser.source}+{preset.reader.source}"


def test_a_mistyped_folder_with_a_plus_is_no_pair(tmp_path):
    with pytest.raises(ModelError, match="no model folder"):
        resolve_model(str(tmp_path / "my+model"))


def test_a_preset_of_one_s_own_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nrecogniser: {source: base}\nreader: {source: some/reader}\n")
    assert resolve_model(str(path)).family == "transcript"
    path.write_text("name: mine\nrecogniser: {source: base, speed: 3}\nreader: {source: a/b}\n")
    with pytest.raises(UsageError, match=r"recogniser\.speed.*source, revision, files"):
        resolve_model(str(path))
    path.write_bytes(b"name: caf\xe9")
    with pytest.raises(UsageError, match=r"mine\.yaml: not valid YAML"):
        resolve_model(str(path))
