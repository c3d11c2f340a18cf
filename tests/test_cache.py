"""The cache gives back what was put in, stays within its limit and never costs an answer."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch

from speechprune_cli.cache import FORMAT, TokenCache
from speechprune_cli.flow import AudioTokens

# a fork server imports torch once for all the processes of these tests
PROCESSES = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
PROCESSES.set_forkserver_preload(["torch"])
KEYS = [f"{number:064x}" for number in range(8)]
FIELDS = {
    "audio_sha256": "ab" * 32,
    "model": "package:nano",
    "revision": "1",
    "dtype": "float32",
    "code_version": "1",
}


def tokens(seed: int = 0, count: int = 50, dtype: torch.dtype = torch.float32) -> AudioTokens:
    """AudioTokens of 8 wide embeddings, as different as their seeds."""
    embeds = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)
    starts = torch.arange(count) / 25
    times = torch.stack([starts, starts + 0.04], dim=1)
    return AudioTokens(
        embeds, times, 25.0, count / 25, 0.125, torch.randn(count), torch.rand(count)
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(cache: TokenCache, key: str, seconds: float) -> None:
    """As if last used that long ago."""
    then = time.time() - seconds
    os.utime(cache.folder / f"{key}.safetensors", (then, then))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_went_in_comes_out(tmp_path: Path, dtype: torch.dtype) -> None:
    cache = TokenCache(tmp_path / "new" / "folder")
    given = tokens(dtype=dtype)
    cache.put(KEYS[0], given)
    found = cache.get(KEYS[0])
    assert found is not None
    assert found.embeds.dtype == dtype
    assert torch.equal(found.embeds, given.embeds)
    assert torch.equal(found.times, given.times)
    assert (found.per_second, found.seconds, found.encode_seconds) == (25.0, 2.0, 0.125)
    assert found.from_cache
    assert not given.from_cache
    assert names(cache.folder) == [f"{KEYS[0]}.safetensors"]


def test_a_model_that_tells_less(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path)
    cache.put(KEYS[0], replace(tokens(), attention=None, nominal_times=True))
    found = cache.get(KEYS[0])
    assert found is not None
    assert found.attention is None
    assert found.nominal_times


def test_views_and_replacement(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path)
    whole = tokens(count=100)
    part = AudioTokens(
        *(getattr(whole, name)[::2] for name in ("embeds", "times")),
        *(25.0, 2.0, 0.0),
        *(getattr(whole, name)[::2] for name in ("loudness", "attention")),
    )
    cache.put(KEYS[0], whole)
    cache.put(KEYS[0], part)
    found = cache.get(KEYS[0])
    assert found is not None
    assert torch.equal(found.embeds, part.embeds)


def test_nothing_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert TokenCache(tmp_path / "none").get(KEYS[0]) is None
    assert caplog.records == []
    assert not (tmp_path / "none").exists()


def test_the_key_depends_on_everything() -> None:
    key = TokenCache.key(**FIELDS)
    assert len(key) == 64
    assert key == TokenCache.key(**dict(reversed(FIELDS.items())))
    changes = {
        "audio_sha256": "cd" * 32,
        "model": "other",
        "revision": None,
        "dtype": "bfloat16",
        "code_version": "2",
    }
    others = {TokenCache.key(**{**FIELDS, name: value}) for name, value in changes.items()}
    assert len(others | {key}) == 6


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path / "chosen"))
    assert TokenCache().folder == tmp_path / "chosen" / "tokens"
    monkeypatch.delenv("SPEECHPRUNE_CACHE_DIR")
    assert TokenCache().folder.parts[-1] == "tokens"
    assert "speechprune" in TokenCache().folder.parts


def damage(kind: str, sound: bytes) -> bytes:
    return {
        "empty": b"",
        "cut": sound[: len(sound) // 2],
        "zeros": bytes(len(sound)),
        "words": b"words " * 500,
        "longer": sound + b"x",
        "no metadata": sound.replace(b"__metadata__", b"__metadatum_"),
        "other names": sound.replace(b'"embeds"', b'"embedz"'),
        "one bit": sound[:-1] + bytes([sound[-1] ^ 1]),
        "another number": sound.replace(b'"seconds":"2.0"', b'"seconds":"3.0"'),
        "another format": sound.replace(f'"format":"{FORMAT}"'.encode(), b'"format":"9"'),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("empty", "cut", "zeros", "words", "longer", "no metadata", "other names"),
        *("one bit", "another number", "another format"),
    ],
)
def test_damaged_files_are_removed(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TokenCache(tmp_path)
    cache.put(KEYS[0], tokens())
    path = tmp_path / f"{KEYS[0]}.safetensors"
    sound = path.read_bytes()
    path.write_bytes(damage(kind, sound))
    assert path.read_bytes() != sound
    assert cache.get(KEYS[0]) is None
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("speechprune", logging.WARNING)
    assert record.getMessage().startswith(f"cache: removed the damaged {path}")
    assert "\n" not in record.getMessage()
    assert names(tmp_path) == []
    cache.put(KEYS[0], tokens())
    assert cache.get(KEYS[0]) is not None


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    size = one_file(tmp_path / "size")
    cache = TokenCache(tmp_path / "cache", max_bytes=3 * size)
    for position, key in enumerate(KEYS[:3]):
        cache.put(key, tokens(position))
        age(cache, key, 100 - position)
    assert cache.get(KEYS[0]) is not None  # now the most recently used
    cache.put(KEYS[3], tokens(3))
    assert [cache.get(key) is not None for key in KEYS[:4]] == [True, False, True, True]


def one_file(folder: Path) -> int:
    """Bytes of one cached recording."""
    TokenCache(folder).put(KEYS[0], tokens())
    return (folder / f"{KEYS[0]}.safetensors").stat().st_size


def test_only_files_of_ours_are_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.safetensors").write_bytes(bytes(10_000))
    (tmp_path / "notes.tmp").write_bytes(bytes(10_000))
    leftover = tmp_path / f".{KEYS[5]}.{'0' * 32}.tmp"  # of a run that was killed
    leftover.write_bytes(bytes(10_000))
    os.utime(leftover, (0, 0))
    TokenCache(tmp_path, max_bytes=5000).put(KEYS[0], tokens())
    assert names(tmp_path) == [f"{KEYS[0]}.safetensors", "notes.tmp", "thesis.safetensors"]


def test_larger_than_the_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = TokenCache(tmp_path, max_bytes=3000)
    cache.put(KEYS[0], tokens(count=50))
    cache.put(KEYS[1], tokens(count=500))
    assert cache.get(KEYS[0]) is not None
    assert cache.get(KEYS[1]) is None
    assert "above the limit" in caplog.text


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = TokenCache(tmp_path / "file")
    cache.put(KEYS[0], tokens())
    assert "cache: cannot keep the encoded recording in" in caplog.text
    assert cache.get(KEYS[0]) is None


def fill_the_disk(folder: Path) -> tuple[list[str], bool]:
    """Put more than a file may hold; the lines that were logged, and whether anything is there."""
    import resource

    logged = StringIO()
    logging.getLogger("speechprune").addHandler(logging.StreamHandler(logged))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    cache = TokenCache(folder)
    cache.put(KEYS[0], tokens(count=10_000))
    return logged.getvalue().splitlines(), cache.get(KEYS[0]) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_costs_one_line(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, PROCESSES) as pool:
        (line,), found = pool.submit(fill_the_disk, tmp_path).result()
    assert line.startswith(f"cache: cannot keep the encoded recording in {tmp_path}")
    assert not found
    assert names(tmp_path) == []


def get_or_put(folder: Path, max_bytes: int, stride: int) -> int:
    """Use the cache as a run does, over and over; the number of hits, each of them checked."""
    cache = TokenCache(folder, max_bytes)
    truth = [tokens(seed, count=2000) for seed in range(len(KEYS))]
    hits = 0
    for step in range(0, 100 * stride, stride):
        chosen = step % len(KEYS)
        found = cache.get(KEYS[chosen])
        if found is None:
            cache.put(KEYS[chosen], truth[chosen])
        else:
            hits += 1
            assert torch.equal(found.embeds, truth[chosen].embeds)
    return hits


def test_many_processes_at_once(tmp_path: Path) -> None:
    """Four share a cache that holds five of the eight: all evict, none reads half a file."""
    max_bytes = 5 * 2000 * (8 + 2) * 4 + 5000
    with ProcessPoolExecutor(4, PROCESSES) as pool:
        runs = [pool.submit(get_or_put, tmp_path, max_bytes, stride) for stride in (1, 3, 5, 7)]
        assert sum(run.result() for run in runs) > 0
    assert all(name.endswith(".safetensors") for name in names(tmp_path))
    TokenCache(tmp_path, max_bytes).put(KEYS[0], tokens(0, count=2000))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= max_bytes


def put_for_ever(folder: Path) -> None:
    given = tokens(count=200_000)
    while True:
        TokenCache(folder).put(KEYS[0], given)


def test_a_killed_run_leaves_no_half_entry(tmp_path: Path) -> None:
    """Killed at any moment: what can be read is whole."""
    run = PROCESSES.Process(target=put_for_ever, args=(tmp_path,))
    run.start()
    while not (tmp_path / f"{KEYS[0]}.safetensors").exists():
        assert run.is_alive()
        time.sleep(0.01)
    time.sleep(0.05)
    run.kill()
    run.join()
    found = TokenCache(tmp_path).get(KEYS[0])
    assert found is not None
    assert torch.equal(found.embeds, tokens(count=200_000).embeds)
