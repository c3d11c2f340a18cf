"""Whatever a file holds: no traceback, the right exit code, one line, nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
import yaml
from bench_data import write_benchmark
from hypothesis import given, seed, settings
from package_index import MODEL, tiny_part, write_preset
from test_audiomarathon import RACE, write_race
from test_bench_tasks import spiral_record, write_spiral
from test_lat_bench import grounding, write_lat

from robustness import targets
from robustness.cases import Tally, Target, alike_alone, play
from robustness.command_lines import command_lines
from robustness.media import every_container
from robustness.mutator import mutated, mutated_text
from speechprune_cli import config
from speechprune_cli.main import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="forks and limits are POSIX's"),
]
SHARES = {"audio": 0.3, "model": 0.15, "run": 0.1, "command line": 0.2}  # of all; others 0.05
NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9", "NPM_CONFIG_REGISTRY": "http://127.0.0.1:9"}
BUILD = ["--samples", "2", "--seconds", "10", "--speaker", "espeak", "--check", "none"]
Draw = Callable[[int, Random], Target]


def share(campaign, group: str) -> int:
    """How many of all cases it gets."""
    return round(campaign.count * SHARES.get(group, 0.05))


@pytest.fixture(scope="module")
def attack(campaign, tmp_path_factory):
    """Play the cases of a group and tell what is wrong with any of them."""

    def run(group: str, draw: Draw) -> None:
        tally = campaign.tallies[group] = Tally()
        folder = tmp_path_factory.mktemp(group)
        for number in range(share(campaign, group)):
            random = Random(f"{campaign.seed}/{group}/{number}")
            play(draw(number, random), str(number), random, folder, tally)
        assert not tally.faults, "\n".join(tally.faults)

    return run


def one_of(found: Sequence[Target]) -> Draw:
    """In turn, from an order in which neighbours are of different files."""
    mixed = sorted(found, key=lambda target: Random(target.name).random())
    return lambda number, _: mixed[number % len(mixed)]


@pytest.fixture(scope="module")
def containers(tmp_path_factory) -> dict[str, bytes]:
    return every_container(tmp_path_factory.mktemp("containers"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished set."""
    folder = tmp_path_factory.mktemp("built") / "set"
    assert main(["build", str(folder), *BUILD, "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def finished(tiny_model_folder, tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished")
    index = write_benchmark(folder, "short", "two", "öffen")
    options = ["-m", str(tiny_model_folder), "-o", str(folder / "run"), "--no-cache", "--quiet"]
    methods = ["--method", "uniform", "--rate", "0.4", "--max-new-tokens", "3", "--derive-hard"]
    assert main(["eval", "jsonl", "--data", str(index), *options, *methods]) == 0
    return folder / "run"


def test_recordings(attack, containers, tiny_model_folder):
    attack("audio", lambda *drawn: targets.audio(containers, tiny_model_folder, *drawn))


def test_a_fork_is_as_a_process(campaign, containers, tiny_model_folder, tmp_path):
    for number in range(20 if campaign.whole else 3):
        random = Random(f"{campaign.seed}/alone/{number}")
        target = targets.audio(containers, tiny_model_folder, random.randrange(10**6), random)
        assert not alike_alone(target, str(number), random, tmp_path)


def test_given_transcripts(attack, tiny_transcriber, recording):
    attack("transcript", one_of(targets.transcripts(tiny_transcriber, recording)))


def test_model_folders(attack, campaign, recording, request):
    names = ["tiny_model", "tiny_voxtral", "tiny_granite", "tiny_gemma4", "tiny_ultravox"]
    if campaign.whole:
        names += ["tiny_qwen2", "tiny_flamingo", "tiny_music_flamingo", "tiny_glm_asr"]
        names += ["tiny_qwen2_5_omni", "tiny_qwen3_omni", "tiny_qwen3_asr", "tiny_diva"]
        names += ["tiny_phi4", "tiny_gemma3n"]
    folders = [request.getfixturevalue(f"{name}_folder") for name in names]
    attack("model", one_of([each for one in folders for each in targets.models(one, recording)]))


def test_presets(attack, tiny_model_folder, tiny_transcriber, recording):
    own = {"name": "own", "source": str(tiny_model_folder), "family": "qwen2_audio"}
    own |= {"defaults": {"method": "cue", "rate": 0.5, "settings": {"cue": {"reach": 0.5}}}}
    texts = {"own.yaml": yaml.safe_dump(own), "pair.yaml": tiny_transcriber.read_text()}
    for name in ("nano", "mini", "qwen2-audio"):
        texts[f"{name}.yaml"] = (config.presets_folder() / f"{name}.yaml").read_text()
    attack("preset", one_of(targets.presets(texts, recording)))


def test_benchmarks(attack, tiny_model_folder, tmp_path):
    own = write_benchmark(_made(tmp_path / "own"))
    own.rename(own.with_name("own.jsonl"))
    write_lat(_made(tmp_path / "lat"), grounding())
    write_spiral(tmp_path / "spiral", spiral_record(), spiral_record("lecture_8"))
    folders = {
        "jsonl": (own.parent, "own.jsonl"),
        "lat-bench": (tmp_path / "lat", "task/bench-EN-TAG.jsonl"),
        "spiral": (tmp_path / "spiral", "data.jsonl"),
        "audiomarathon-race": (write_race(tmp_path / "race", RACE), "race_benchmark.json"),
    }
    attack("benchmark", one_of(targets.benchmarks(folders, tiny_model_folder)))


def test_runs(attack, finished, tmp_path):
    from test_cli_eval import OLD_RUN

    attack("run", one_of(targets.runs(finished, [OLD_RUN])))


def test_builds(attack, built):
    attack("build", one_of(targets.builds(built, BUILD)))


def test_caches(attack, tiny_model_folder, recording, tmp_path):
    """A damaged entry is made anew: the answer is the one that there was without it."""
    path = tmp_path / "a.wav"
    path.write_bytes(recording)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path / "cache"))
        ask = ["ask", "a.wav", targets.QUESTION, "-m", str(tiny_model_folder), *targets.SHORT]
        patch.chdir(tmp_path)
        assert main([*ask, "--quiet"]) == 0
    attack("cache", one_of(targets.kept(tmp_path / "cache", {"tokens/*": ask}, recording)))


def test_command_lines(campaign, finished, recording, tiny_model_folder, tmp_path):
    models = [str(tiny_model_folder), "nano"]
    files = {"work/a.wav": recording, "work/empty.wav": b"", "work/r": finished}
    files |= {f"work/{name}": text.encode() for name, text in targets.SUBTITLES.items()}
    files["work/d.jsonl"] = json.dumps({"audio": "a.wav", **targets.LINE}).encode()
    tally = campaign.tallies["command line"] = Tally()

    @settings(max_examples=share(campaign, "command line"), database=None)
    @seed(campaign.seed)
    @given(command_lines(models))
    def play_one(line):
        target = Target("", line, files, "work/a.srt", range(5), unchanged, environment=NOWHERE)
        made = ("work/made", targets.SPEAKER) if line[0] == "build" else ("work/made",)
        target = replace(target, name=" ".join(line)[:500], made=made)
        play(target, str(tally.tried), Random(0), tmp_path, tally)

    play_one()
    assert not tally.faults, "\n".join(tally.faults)


def test_package_indexes(attack, served, tmp_path):
    """What a server answers may be as wrong as a file: the model is right, or it is not there."""
    write_preset(tmp_path / "presets", "alone", tiny_part())
    page, file = served.page, served.file

    def draw(_: int, random: Random) -> Target:
        served.html, served.page, served.file = random.random() < 0.5, page, file
        if random.random() < 0.5:
            served.page = lambda name: mutated_text(page(name).encode(), random).decode("latin-1")
        else:
            served.file = lambda path: mutated(file(path) or b"", random)
        command = ("models", "get", "alone", "--from", "index", "--quiet")
        show = partial(show_presets, tmp_path / "presets")
        return Target(
            "get",
            command,
            {"work/x": b""},
            "work/x",
            {0, 1, 4},
            unchanged,
            prepare=show,
            also=_right,
        )

    attack("network", draw)


def unchanged(data: bytes, _: Random) -> bytes:
    return data


def show_presets(presets: Path) -> None:
    config.presets_folder = lambda: presets


def _right(box: Path) -> list[str]:
    model = box / "cache/stored/tiny/model.bin"
    wrong = model.exists() and model.read_bytes() != MODEL
    return ["another model than the tested one"] if wrong else []


def _made(folder):
    folder.mkdir()
    return folder
