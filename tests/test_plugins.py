"""Parts from other installed packages: built, installed and used for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import speechprune_cli
from speechprune_cli.backends import FAMILIES, family_of
from speechprune_cli.config import load_preset, resolve_model
from speechprune_cli.errors import UsageError
from speechprune_cli.pruners import PRUNERS
from speechprune_cli.registry import Registry
from speechprune_cli.validation import checked

EXAMPLE = Path(speechprune_cli.__file__).parent / "examples" / "meeting.ogg"
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "speechprune-longest"
version = "1"

[project.entry-points."speechprune.pruners"]
longest = "speechprune_longest.norms:Longest"
broken = "speechprune_longest.nowhere:Nothing"
"""
PRUNER = '''
"""The longest vectors, whatever the question."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from speechprune_cli.budget import top_k
from speechprune_cli.pruners.base import Choice, Pruner


@dataclass(frozen=True)
class Longest(Pruner):
    """By a norm of one's choice."""

    order: Annotated[int, Ge(1)] = 2

    def score_and_keep(self, task):
        scores = task.tokens.embeds.float().norm(self.order, dim=-1).cpu()
        return Choice(top_k(scores, task.keep), scores, f"{task.keep} tokens of the largest norm")
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where a package with a pruner was installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    (source / "speechprune_longest").mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "speechprune_longest" / "__init__.py").touch()
    (source / "speechprune_longest" / "norms.py").write_text(PRUNER)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True)
    return target


def run(installed, *arguments):
    paths = [str(installed), str(Path(speechprune_cli.__file__).parents[1])]
    return subprocess.run(
        [sys.executable, "-m", "speechprune_cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_pruner_of_another_package_is_a_method_like_any_other(installed):
    asked = [
        "prune",
        str(EXAMPLE),
        "Who?",
        "--method",
        "longest",
        "--keep",
        "20",
        "--set",
        "order=1",
    ]
    done = run(installed, *asked, "--json")
    assert done.stderr == ""
    pruning = json.loads(done.stdout)["pruning"]
    assert (pruning["method"], pruning["kept"], pruning["settings"]["order"]) == ("longest", 20, 1)
    assert "longest" in run(installed, "prune", "--help").stdout


def test_its_settings_are_checked_like_any_other_s(installed):
    done = run(installed, "prune", str(EXAMPLE), "Who?", "--method", "longest", "--set", "order=0")
    assert done.returncode == 2
    assert "order is 0" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_part_that_cannot_be_loaded_is_one_clear_line(installed):
    done = run(installed, "prune", str(EXAMPLE), "Who?", "--method", "broken")
    assert done.returncode == 2
    assert "of the package speechprune-longest cannot be loaded" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def others():
    """A registry of its own, so that nobody else's is changed."""
    package = "speechprune_cli.pruners"
    path = sys.modules[package].__path__
    return Registry(package, path, PRUNERS.kind, "pruning method", group="nobody.pruners")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("uniform", "speechprune_cli.pruners.cue:Cue", "'uniform': .* has one too"),
        ("odd", "speechprune_cli.errors:UsageError", "is no Pruner"),
        ("bare", "speechprune_cli.pruners.base:Pruner", "is no Pruner"),
        ("gone", "speechprune_cli.pruners.cue:Gone", "cannot be loaded"),
    ],
)
def test_wrong_parts(others, name, value, message):
    others.foreign[name] = [EntryPoint(name, value, others.group)]
    with pytest.raises(UsageError, match=message):
        others.part(name)


def test_two_packages_with_the_same_name(others):
    value = "speechprune_cli.pruners.cue:Cue"
    others.foreign["twin"] = [EntryPoint("twin", value, others.group)] * 2
    with pytest.raises(UsageError, match=r"'twin': .* has one too: uninstall one"):
        others.part("twin")


def test_a_package_that_fails_as_it_is_imported(others, tmp_path, monkeypatch):
    (tmp_path / "failing_part.py").write_text("raise ValueError('no such device')\n")
    monkeypatch.syspath_prepend(tmp_path)
    others.foreign["failing"] = [EntryPoint("failing", "failing_part:Part", others.group)]
    with pytest.raises(UsageError, match="cannot be loaded: no such device"):
        others.part("failing")


def test_a_broken_family_of_another_package_is_in_nobody_s_way(monkeypatch):
    broken = EntryPoint("aaa", "nowhere_at_all:Family", FAMILIES.group)
    monkeypatch.setitem(FAMILIES.foreign, "aaa", [broken])
    assert family_of(load_preset("nano"), "qwen2_audio").family == "qwen2_audio"
    assert family_of(resolve_model("some/model"), "voxtral").family == "voxtral"
    with pytest.raises(UsageError, match="cannot be loaded"):
        family_of(resolve_model("some/model"), "unheard-of")


@dataclass(frozen=True)
class Settings:
    ways: tuple[str, ...] = field(default_factory=tuple)
    limit: int = 3


def test_settings_whose_default_is_made():
    assert checked(Settings, {"limit": 4}, "it:") == Settings((), 4)
