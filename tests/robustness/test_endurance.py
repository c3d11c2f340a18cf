"""An hour of audio through every command, and a session of many questions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robustness.test_kills import MEETING
from robustness.workers import Job, run_alone, started
from speechprune_cli.audio import load_audio, write_audio
from speechprune_cli.flow import SAMPLE_RATE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory as Linux tells it"),
]
HOUR = 3600
MOST_MEGABYTES = 3000  # an hour is 230 MB of samples, and 90,000 tokens
GROWTH_MEGABYTES = 10  # that a hundred questions more may take
QUESTION = "Where did Daniel get a job?"
COMMANDS = {
    "ask": ("ask", "hour.flac", QUESTION, "--json", "-m"),
    "prune": ("prune", "hour.flac", QUESTION, "--json", "--no-cache", "-m"),
    "eval": ("eval", "jsonl", "--data", "hour.jsonl", "-o", "run", "--keep", "1%", "-m"),
    "profile": ("profile", "--measure", "--seconds", str(HOUR), "--repeats", "1"),
}


@pytest.fixture(scope="module")
def hour(campaign, tmp_path_factory):
    """A folder with an hour of sound: the example of the package, again and again."""
    if not campaign.whole:
        pytest.skip("an hour of audio is for the whole campaign: --whole")
    folder = tmp_path_factory.mktemp("hour")
    samples = load_audio(MEETING).samples
    write_audio(folder / "hour.flac", np.resize(samples, HOUR * SAMPLE_RATE), SAMPLE_RATE)
    line = {"audio": "hour.flac", "question": QUESTION, "options": ["harbor", "street"]}
    (folder / "hour.jsonl").write_text(json.dumps({**line, "answer": "harbor"}))
    return folder


BY_NANO = [("nano", command) for command in COMMANDS if command != "profile"]
"""Without `profile`, which has the decoder read all 90,000 tokens: far more work."""


@pytest.mark.parametrize(("model", "command"), [*(("tiny", each) for each in COMMANDS), *BY_NANO])
def test_an_hour(campaign, hour, model, command, tiny_model_folder, tmp_path):
    name = str(tiny_model_folder) if model == "tiny" else model
    shutil.copytree(hour, tmp_path, dirs_exist_ok=True)
    outcome = run_alone(Job((*COMMANDS[command], name), tmp_path))
    assert outcome.code == 0, outcome.err
    campaign.lines.append(
        f"an hour, {command}, {model}: peak {outcome.megabytes:,.0f} MB, {outcome.seconds:.0f} s"
    )
    assert outcome.megabytes < MOST_MEGABYTES


def test_many_questions_in_one_session(campaign, tiny_model_folder, tmp_path):
    """Memory is flat once the first fifth is answered."""
    count = 500 if campaign.whole else 100
    questions = [f"Who is number {number}, and where?" for number in range(count)]
    options = ("-m", str(tiny_model_folder), "--json", "--max-new-tokens", "8")
    job = Job(["ask", str(MEETING), *questions, *options], tmp_path)
    process = started(job, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    sizes = list(_sizes(process))
    assert (process.wait(), len(sizes)) == (0, count)
    settled, last = sizes[count // 5], max(sizes[-count // 5 :])
    campaign.lines.append(
        f"{count} questions in one session: {settled:,.0f} MB after a fifth, {last:,.0f} MB at last"
    )
    assert last - settled < GROWTH_MEGABYTES * max(1, count // 100)


def _sizes(process: subprocess.Popen[bytes]) -> Iterator[float]:
    """Megabytes that it holds after each answer."""
    for _ in process.stdout:
        status = Path(f"/proc/{process.pid}/statm").read_text().split()
        yield int(status[1]) * os.sysconf("SC_PAGESIZE") / 2**20
