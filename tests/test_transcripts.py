"""What a recogniser makes up is cut, and transcripts survive any kill and any disk."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from full_disk import full_disk
from stand_in import StandIn, recording

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import Word
from speechprune_cli.transcripts.files import read_transcript
from speechprune_cli.transcripts.languages import CODES, NAMES, language_code
from speechprune_cli.transcripts.piece import Piece, joined
from speechprune_cli.transcripts.store import transcribed
from speechprune_cli.transcripts.trust import LOOP_REPEATS, without_loops


def _words(text: str) -> list[Word]:
    """A word a second."""
    return [Word(f" {word}", at + 0.125, at + 0.875) for at, word in enumerate(text.split())]


def test_loops_are_taken_once_and_told():
    text = "So it ends. " + "Thank you very much. " * 20 + "Now the rest."
    words = _words(text)
    kept, cut = without_loops(words)
    assert (
        "".join(word.text for word in kept).strip()
        == "So it ends. Thank you very much. Now the rest."
    )
    assert cut == [(words[7].start, words[82].end)]
    (note,) = joined([Piece(0, 16000, tuple(words))], "a test").notes
    assert "over and over" in note
    assert "00:07-01:22" in note


def test_what_people_repeat_is_no_loop():
    words = _words("no " * (LOOP_REPEATS - 1) + "never. Ha ha. Ha ha.")
    assert without_loops(words) == (words, [])


def test_what_was_dropped_is_told():
    pieces = [Piece(0, 320000, dropped=((3.0, 9.0), (12.0, 20.0)))]
    assert joined(pieces, "a test").notes == (
        "2 stretches, 14 s in all (00:03-00:09, 00:12-00:20): no words that can be trusted",
    )


def test_languages_by_code_and_by_name():
    assert language_code("de") == language_code("DE") == language_code("German") == "de"
    with pytest.raises(UsageError, match=r"no language 'Germn' \(do you mean german\?\): "):
        language_code("Germn")
    with pytest.raises(UsageError, match=r"no language 'Q': .* such as de or German$"):
        language_code("Q")


def test_the_languages_are_those_of_transformers():
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    assert NAMES == LANGUAGES
    assert CODES == TO_LANGUAGE_CODE


AUDIO = recording(8)


def test_a_recogniser_that_knows_another_language_is_told_of_each_time(tmp_path, caplog):
    for _ in range(2):
        caplog.clear()
        transcribed(AUDIO, StandIn(only="en"), "German", tmp_path)
        assert "writes English, not German" in caplog.text
    caplog.clear()
    transcribed(AUDIO, StandIn(only="en"), None, tmp_path)
    assert not caplog.records


def test_a_second_time_nothing_is_recognised(tmp_path):
    first = transcribed(AUDIO, StandIn(), "en", tmp_path)
    assert first.sentences
    assert transcribed(AUDIO, StandIn(refuse=True), "English", tmp_path) == first
    (entry,) = (path for path in tmp_path.iterdir() if path.suffix == ".json")
    assert read_transcript(entry) == first
    assert [path.name for path in tmp_path.iterdir()] == [entry.name]


def test_what_is_there_is_found_without_the_library_of_locks(tmp_path):
    folder = tmp_path / "kept"
    transcribed(AUDIO, StandIn(), None, folder)
    out, _ = _run(folder, 99, "print('filelock' in sys.modules)").communicate()
    assert out.splitlines()[-1] == "False"


def test_all_that_words_depend_on_makes_another_entry(tmp_path):
    other = StandIn()
    other.revision = "another"
    transcribed(AUDIO, StandIn(), "en", tmp_path)
    transcribed(AUDIO, other, "en", tmp_path)
    transcribed(AUDIO, StandIn(), "de", tmp_path)
    transcribed(replace(AUDIO, sha256="0" * 64), StandIn(), "en", tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 4


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert transcribed(AUDIO, StandIn()) == transcribed(AUDIO, StandIn(), None, tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


RUN = """
import os, signal, sys
from pathlib import Path
from stand_in import StandIn, recording
from speechprune_cli.transcripts.store import transcribed

def killed(seconds):
    if seconds > float(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

print(transcribed(recording(8), StandIn(), None, Path(sys.argv[1]), killed))
"""


def _run(folder: Path, seconds: float, then: str = "") -> subprocess.Popen[str]:
    """Another process, killed after so many seconds of the recording."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    command = [sys.executable, "-c", RUN + then, str(folder), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
def test_a_killed_run_is_gone_on_with(tmp_path):
    whole = transcribed(AUDIO, StandIn(), None)
    runs = [_run(tmp_path / str(pieces), pieces) for pieces in range(8)]
    for pieces, run in enumerate(runs):
        run.communicate()
        assert run.returncode == -signal.SIGKILL
        recogniser = StandIn()
        assert transcribed(AUDIO, recogniser, None, tmp_path / str(pieces)) == whole
        assert recogniser.made == 8 - pieces


def test_what_kills_left_beside_an_entry_is_removed(tmp_path):
    """Killed while the entry was written, and once it was there."""
    whole = transcribed(AUDIO, StandIn(), None, tmp_path)
    (entry,) = tmp_path.glob("*.json")
    for left in (entry.with_suffix(".partial"), entry.with_name(f".{entry.stem}.lock")):
        left.write_bytes(b"")
    assert transcribed(AUDIO, StandIn(refuse=True), None, tmp_path) == replace(whole, kept=True)
    assert list(tmp_path.iterdir()) == [entry]
    entry.unlink()
    entry.with_name(f".{entry.stem}.{'0' * 32}.json").write_text("{")
    assert transcribed(AUDIO, StandIn(), None, tmp_path) == whole
    assert list(tmp_path.iterdir()) == [entry]


@pytest.mark.parametrize("cut", range(1, 400, 57))
def test_a_torn_line_does_not_count(tmp_path, cut):
    whole = transcribed(AUDIO, StandIn(), "en", tmp_path)
    partial = _interrupted(tmp_path / "torn")
    partial.write_bytes(partial.read_bytes()[:-cut])
    assert transcribed(AUDIO, StandIn(), "en", tmp_path / "torn") == whole
    assert not partial.exists()


def test_a_damaged_line_and_all_behind_it_do_not_count(tmp_path):
    whole = transcribed(AUDIO, StandIn(), "en", tmp_path)
    partial = _interrupted(tmp_path / "damaged")
    first, second, third = partial.read_bytes().splitlines(keepends=True)
    for content in (second + first, first + second.replace(b"spoken", b"broken") + third):
        partial.write_bytes(content)
        assert transcribed(AUDIO, StandIn(), "en", tmp_path / "damaged") == whole
        next((tmp_path / "damaged").glob("*.json")).unlink()


def _interrupted(folder: Path) -> Path:
    """What a run leaves that is stopped after three pieces."""
    with pytest.raises(KeyboardInterrupt):
        transcribed(AUDIO, StandIn(stop_after=3), "en", folder)
    (partial,) = folder.glob("*.partial")
    return partial


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff\xfe", b"cut", b"changed"])
def test_a_damaged_entry_is_made_anew_with_one_warning(tmp_path, caplog, damage):
    whole = transcribed(AUDIO, StandIn(), "en", tmp_path)
    (entry,) = tmp_path.glob("*.json")
    sound = entry.read_bytes()
    damage = {b"cut": sound[:-40], b"changed": sound.replace(b"spoken", b"broken", 1)}.get(
        damage, damage
    )
    entry.write_bytes(damage)
    assert transcribed(AUDIO, StandIn(), "en", tmp_path) == whole
    assert read_transcript(entry) == whole
    assert len(caplog.records) == 1
    assert str(entry) in caplog.text


def test_an_entry_that_cannot_be_read_is_made_anew_with_one_warning(tmp_path, caplog):
    whole = transcribed(AUDIO, StandIn(), "en", tmp_path)
    (entry,) = tmp_path.glob("*.json")
    entry.unlink()
    entry.symlink_to(entry.name)  # in a circle
    assert transcribed(AUDIO, StandIn(), "en", tmp_path) == whole
    assert [record.levelname for record in caplog.records if record.levelno > 10] == ["WARNING"]
    assert f"cannot read {entry}" in caplog.text
    assert read_transcript(entry) == whole


def test_a_disk_that_refuses_costs_time_only(tmp_path, caplog):
    whole = transcribed(AUDIO, StandIn(), "en")
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    assert transcribed(AUDIO, StandIn(), "en", tmp_path / "file") == whole
    assert len(caplog.records) == 1


@pytest.mark.parametrize("room", [0, 300, 900])
def test_a_full_disk_costs_time_only(tmp_path, caplog, room, monkeypatch):
    # pytest's own capture of stderr is a file too
    monkeypatch.setattr(logging.getLogger("speechprune"), "handlers", [])
    whole = transcribed(AUDIO, StandIn(), "en")
    with full_disk(room):
        found = transcribed(AUDIO, StandIn(), "en", tmp_path)
    assert found == whole
    assert len(caplog.records) == 1
    assert transcribed(AUDIO, StandIn(), "en", tmp_path) == whole


def test_processes_at_once_make_one_transcript(tmp_path):
    runs = [_run(tmp_path, 99) for _ in range(3)]
    said = {run.communicate()[0] for run in runs}
    assert said == {f"{transcribed(AUDIO, StandIn(refuse=True), None, tmp_path)}\n"}
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_an_interrupt_says_what_is_kept_and_the_next_run_where_it_goes_on(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "speechprune"):
        _interrupted(tmp_path)
        (told,) = caplog.messages
        assert "up to 00:03 is kept" in told
        caplog.clear()
        transcribed(AUDIO, StandIn(), "en", tmp_path)
        assert caplog.messages == ["noise: recognising goes on at 00:03"]
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            transcribed(AUDIO, StandIn(stop_after=3), "en")
        assert not caplog.messages, "nothing is kept"


def test_progress_is_told_in_seconds_of_the_recording(tmp_path):
    told: list[float] = []
    _interrupted(tmp_path)
    transcribed(AUDIO, StandIn(), "en", tmp_path, told.append)
    assert told == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    transcribed(AUDIO, StandIn(), "en", tmp_path, told.append)
    assert told[6:] == [8.0]
