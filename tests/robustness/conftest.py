"""How much is tried, and the table of what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import soundfile
from conftest import make_audio

from robustness.cases import Tally
from speechprune_cli.flow import SAMPLE_RATE

COUNT = 400  # bad inputs where nothing is said


def pytest_addoption(parser):
    """Of the campaign: `pytest tests/robustness --whole`."""
    group = parser.getgroup("robustness")
    group.addoption("--whole", action="store_true", help="every kill, an hour of audio, the soak")
    group.addoption("--count", type=int, help=f"bad inputs to generate; {COUNT} if not said")
    group.addoption("--seed", type=int, help="for all that is drawn at random; 0 if not said")
    group.addoption("--whisper", type=Path, help="a folder with Whisper base; else it is fetched")


@dataclass
class Campaign:
    """How much is tried, and what is told at the end."""

    whole: bool
    count: int
    seed: int
    whisper: Path | None
    tallies: dict[str, Tally] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def table(self) -> Iterator[str]:
        """Of the bad inputs; then what else was measured."""
        form = "{:16}{:>7}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}".format
        if self.tallies:
            yield form("bad inputs", "tried", "exit 0", "refused", "partly", "faults", "s", "MB")
        for name, tally in self.tallies.items():
            refused = sum(count for code, count in tally.codes.items() if code > 1)
            answered, partly = tally.codes[0], tally.codes[1]
            numbers = (tally.tried, answered, refused, partly, len(tally.faults))
            yield form(name, *numbers, f"{tally.seconds:.1f}", f"{tally.megabytes:.0f}")
        yield from self.lines


CAMPAIGN = pytest.StashKey[Campaign]()


@pytest.fixture(scope="session")
def campaign(request) -> Campaign:
    """Of this session."""
    option = request.config.getoption
    made = Campaign(
        option("--whole", False),
        option("--count", None) or COUNT,
        option("--seed", None) or 0,
        option("--whisper", None),
    )
    request.config.stash[CAMPAIGN] = made
    return made


def pytest_terminal_summary(terminalreporter, config):
    """The table."""
    made = config.stash.get(CAMPAIGN, None)
    for line in made.table() if made else ():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def recording(tmp_path_factory) -> bytes:
    """A wav of two seconds."""
    path = tmp_path_factory.mktemp("recording") / "a.wav"
    soundfile.write(path, make_audio(2.0).samples, SAMPLE_RATE)
    return path.read_bytes()
