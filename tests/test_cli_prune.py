"""`speechprune prune`: the files it writes, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import make_audio
from safetensors import safe_open

from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main

QUESTION = "When is the report due?"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "meeting.flac"
    soundfile.write(path, make_audio(12).samples, SAMPLE_RATE)
    return str(path)


@pytest.fixture
def prune(tiny_model_folder, recording, capfd, monkeypatch):
    """Run `speechprune prune RECORDING QUESTION ...` in this process: stdout."""
    monkeypatch.setenv("SPEECHPRUNE_MODEL", str(tiny_model_folder))
    monkeypatch.setenv("SPEECHPRUNE_METHOD", "speechprune")

    def run(*arguments):
        code = main(["prune", recording, QUESTION, *map(str, arguments)])
        captured = capfd.readouterr()
        assert (code, captured.err) == (0, "")
        return captured.out

    return run


def test_spans_in_a_pipe_cover_what_is_kept(prune):
    spans = [tuple(map(float, line.split("\t"))) for line in prune("--keep", 30).splitlines()]
    kept = json.loads(prune("--keep", 30, "--json"))["kept"]
    assert sum(end - start for start, end in spans) == pytest.approx(30 / 25)
    covered = [i for i in range(300) if any(s <= (i + 0.5) / 25 <= e for s, e in spans)]
    assert covered == kept == sorted(set(kept))


def test_the_file_holds_all_that_a_decoder_needs(prune, tmp_path, tiny_model_folder, recording):
    path = tmp_path / "kept.safetensors"
    fields = json.loads(prune("-o", path, "--rate", 0.5, "--json"))
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        provenance = {key: json.loads(value) for key, value in file.metadata().items()}
    assert tensors["indices"].tolist() == fields["kept"]
    assert len(fields["kept"]) == 150
    assert tensors["embeds"].shape == (150, 64)
    assert tensors["times"].shape == (150, 2)
    assert tensors["scores"].shape == (300,)
    assert np.allclose(tensors["times"][:, 0], np.array(fields["kept"]) / 25)
    assert provenance["question"] == QUESTION
    assert provenance["audio"]["sha256"] == fields["audio"]["sha256"]
    assert provenance["model"]["source"] == str(tiny_model_folder)
    assert provenance["pruning"] == fields["pruning"]
    assert provenance["versions"]["torch"]


def test_the_embeddings_are_those_of_the_recording(prune, tmp_path, tiny_model_folder, recording):
    import torch

    from speechprune_cli import load

    path = tmp_path / "kept.safetensors"
    prune("-o", path, "--method", "uniform", "--keep", 20)
    with safe_open(path, "pt") as file:
        embeds, indices = file.get_tensor("embeds"), file.get_tensor("indices")
    tokens = load(str(tiny_model_folder), cache=False).encode(recording)
    assert torch.equal(embeds, tokens.embeds[indices])


@pytest.mark.slow
def test_all_files_at_once(prune, tmp_path):
    paths = {
        "-o": tmp_path / "kept.safetensors",
        "--plot": tmp_path / "timeline.svg",
        "--tsne": tmp_path / "tsne.png",
        "--audio": tmp_path / "kept.flac",
    }
    options = [text for pair in paths.items() for text in pair]
    fields = json.loads(prune(*options, "--keep", 50, "--json"))
    assert fields["files"] == [str(path) for path in paths.values()]
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    (tmp_path / "any").touch()
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {
        (tmp_path / "any").stat().st_mode
    }
    heard, rate = soundfile.read(paths["--audio"])
    assert rate == SAMPLE_RATE
    assert len(heard) == 50 * SAMPLE_RATE // 25


@pytest.mark.parametrize(
    ("option", "name", "complaint"),
    [
        ("-o", "kept.bin", "--output kept.bin: the name has to end in .safetensors"),
        ("-o", "no/kept.safetensors", "--output no/kept.safetensors: there is no folder no"),
        ("--plot", "a.gif", "--plot a.gif: the name has to end in .png, .svg, .pdf"),
        ("--tsne", "tsne", "--tsne tsne: the name has to end in .png, .svg, .pdf"),
        ("--audio", "kept.xyz", "--audio kept.xyz: the name has to end in .wav"),
    ],
)
def test_destinations_are_checked_before_any_work(option, name, complaint, capsys):
    assert main(["prune", "no such recording.wav", QUESTION, option, name]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {complaint}")
    assert captured.err.count("\n") == 1


def test_the_recording_is_not_overwritten(recording, capsys):
    before = Path(recording).read_bytes()
    assert main(["prune", recording, QUESTION, "--audio", recording]) == 2
    assert "is the recording itself" in capsys.readouterr().err
    assert Path(recording).read_bytes() == before


def test_two_options_cannot_share_a_file(capsys, tmp_path):
    path = str(tmp_path / "figure.png")
    assert main(["prune", "x.wav", QUESTION, "--plot", path, "--tsne", path]) == 2
    assert "same file" in capsys.readouterr().err
